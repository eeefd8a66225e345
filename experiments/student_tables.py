"""The tables of docs/results-teaching.md: of the pipeline `teaching` and the sweeps `students_*`."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from experiments.accuracy import Accuracy, Result, pooled
from experiments.pipeline_tables import exact_match_of, reports
from experiments.pipeline_tables import pick as pick_pipelines
from experiments.tables import DASH, cell, table

HINTED_TEST = "explained_tiny_hinted_eval_test_compact"
FORMS = {
    "single": "`single`: the answer alone",
    "mt_re": "`mt_re`",
    "mt_ra": "`mt_ra`",
    "mt_cot": "`mt_cot`",
    "mt_re_shuffled": "`mt_re`, words permuted",
    "mt_cot_shuffled": "`mt_cot`, words permuted",
    "explain_answer": "`explain_answer`: one task, explains first",
}
SOURCES = {
    "gold": "gold, all 5,000",
    "cote": "cote",
    "rp": "rp",
    "crop": "crop",
    "unfiltered": "unfiltered",
}
EXAMPLES = ("1000", "5000", "20000")
ALPHAS = ("0.1", "0.5", "0.9")
OF_SOURCES, OF_EXAMPLES, OF_ALPHAS = ("mt_cot", "explain_answer"), ("single", "mt_cot"), ("mt_re", "mt_cot")


def pick(found: Iterable[Result], sweep: str, **axis_values: str) -> list[Result]:
    """Returns the results of a sweep, of any seed, with these values on its axes."""
    return [r for r in found if r["sweep"] == f"students_{sweep}" and axis_values.items() <= r["axis_values"].items()]


def accuracy(runs: Sequence[Result], metric: str = "exact_match") -> Accuracy | None:
    """Returns the accuracy on the split test; a run is also scored on the validation rows of its own dataset."""
    metrics = [m for run in runs for task, m in run["evaluations"].items() if task.endswith("_eval_test")]
    return pooled([(of[metric] * of["n"], of["n"]) for of in metrics])


def teachers(found: list[Result], of_pipelines: list[Result]) -> str:
    del found
    runs = pick_pipelines(of_pipelines, "teaching")
    rows = [("accuracy of the teacher on test", cell(exact_match_of(reports(runs, "test", HINTED_TEST))), "", "")]
    for method in ("cote", "rp", "crop"):
        accounts = reports(runs, method, f"{method}.json")
        kept = [sum(of["accepted"] for of in account["outcomes"].values()) for account in accounts]
        valid = [account["steps"].get("valid", 0) / n for account, n in zip(accounts, kept, strict=True) if n]
        rows.append((f"`{method}`", "", _mean(kept, ",.0f"), _mean(valid, ".1%")))
    return table(("", "exact match", "explanations kept of 5,000", "of them with all steps correct"), rows)


def _mean(values: Sequence[float], form: str) -> str:
    if not values:
        return DASH
    return f"**{statistics.mean(values):{form}}** ({min(values):{form}} to {max(values):{form}})"


def forms(found: list[Result], of_pipelines: list[Result]) -> str:
    del of_pipelines
    rows = [(words, cell(accuracy(pick(found, "forms", form=form)))) for form, words in FORMS.items()]
    return table(("form, with gold explanations", "exact match on test"), rows)


def sources(found: list[Result], of_pipelines: list[Result]) -> str:
    del of_pipelines
    rows = []
    for source, words in SOURCES.items():
        sweep = "forms" if source == "gold" else "sources"
        rows.append((words, *(cell(accuracy(pick(found, sweep, form=f, source=source))) for f in OF_SOURCES)))
    return table(("explanations", *(f"`{form}`" for form in OF_SOURCES)), rows)


def examples(found: list[Result], of_pipelines: list[Result]) -> str:
    del of_pipelines
    numbers = {number: f"{int(number):,}" for number in EXAMPLES}
    return _by_axis(found, "examples", numbers, "5000", "questions", OF_EXAMPLES)


def alphas(found: list[Result], of_pipelines: list[Result]) -> str:
    del of_pipelines
    return _by_axis(found, "alpha", {alpha: alpha for alpha in ALPHAS}, "0.5", "`ALPHA`", OF_ALPHAS)


def _by_axis(
    found: list[Result], axis: str, words: dict[str, str], of_forms: str, title: str, forms: Sequence[str]
) -> str:
    """A row for each value of an axis; that of `of_forms` was run by the sweep of the forms."""
    sweep, rows = f"{axis.removesuffix('s')}s", []
    for value, shown in words.items():
        runs = [
            pick(found, "forms", form=form) if value == of_forms else pick(found, sweep, form=form, **{axis: value})
            for form in forms
        ]
        rows.append((shown, *(cell(accuracy(of)) for of in runs)))
    return table((title, *(f"`{form}`" for form in forms)), rows)


def csqa(found: list[Result], of_pipelines: list[Result]) -> str:
    del of_pipelines
    rows = []
    for size in ("0.2M", "4M"):
        for form in ("answer", "mt_cot"):
            runs = pick(found, "csqa", size=size, form=form)
            rows.append((size, f"`{form}`", cell(accuracy(runs)), cell(accuracy(runs, "parseable"))))
    return table(("parameters", "form", "exact match", "names one of the choices"), rows)


# Each with the commands that fill it.
TABLES: dict[str, tuple[Callable[[list[Result], list[Result]], str], str]] = {
    "teachers": (teachers, "`explainft pipeline experiments/pipelines/teaching.gin`"),
    "student_forms": (forms, "`explainft sweep experiments/students_forms.gin`"),
    "student_sources": (sources, "`explainft sweep experiments/students_sources.gin`"),
    "student_examples": (examples, "`explainft sweep experiments/students_examples.gin`"),
    "student_alphas": (alphas, "`explainft sweep experiments/students_alphas.gin`"),
    "student_csqa": (csqa, "`explainft sweep experiments/students_csqa.gin`"),
}


def render(name: str, found: list[Result], of_pipelines: list[Result]) -> str:
    """Returns a table in Markdown, and below it the command that fills it."""
    function, command = TABLES[name]
    return f"{function(found, of_pipelines)}\n\nFrom {command}."
