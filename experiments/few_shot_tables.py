"""The tables of docs/results-transfer.md, from the matrices that `explainft transfer` wrote into results/transfer."""

import json
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.accuracy import ROOT, Accuracy, pooled
from experiments.tables import DASH, cell, table
from explainft.transfer.differences import NEGATIVE, POSITIVE

MATRICES = ROOT / "results" / "transfer"
SWEEP = "few_shot"  # whose runs the matrices have
FORMS = {"none": "answer alone", "medium": "explanation"}
TRAINED_SHOTS, TESTED_SHOTS = ("0", "1", "2"), ("0", "2", "4")
TEMPLATES = {"": "as in training", "_reworded": "reworded"}
EXAMPLES = ("2000", "4000", "6000")
SPLIT = re.compile(r".*_eval_(\w+?)(?:_compact)?$")  # of an evaluation task
DEFAULT_EXAMPLES = "4000"  # of the tables that do not compare numbers of examples

Matrix = dict[str, Any]


class Tuned(NamedTuple):
    """A run of experiments/few_shot.gin, whose label is its trial's name: what it was trained on."""

    seed: str
    form: str
    shots: str
    examples: str


def matrices(directory: Path = MATRICES) -> dict[str, Matrix]:
    """Returns the content of each transfer.json by the name of its directory."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(directory.glob("*/transfer.json"))}


def tuned(label: str) -> Tuned | None:
    """Returns what the run of a label was trained on; None for the base."""
    parts = Path(label).name.split("-")
    return Tuned(*parts[:4]) if len(parts) > 3 else None


def cells(
    matrix: Matrix, form: str | None, shots: str | None, task: str, examples: str = DEFAULT_EXAMPLES
) -> list[Matrix]:
    """Returns the cells of a task: those of the runs of any seed that were trained so, or of the base (`form` None)."""
    found = []
    for of in matrix.get("cells", ()):
        run = tuned(of["run"])
        fits = run is None if form is None else run is not None and run[1:] == (form, shots, examples)
        if of["task"] == task and fits:
            found.append(of)
    return found


def accuracy(found: Iterable[Matrix], value: str = "value") -> Accuracy | None:
    return pooled([(of[value] * of["n"], of["n"]) for of in found if of[value] is not None])


def task_of(form: str, shots: str, template: str = "") -> str:
    return f"explained_tiny_{form}_{shots}_shot{template}_eval_test_compact"


def _rows(form: str) -> list[tuple[str, str | None, str | None]]:
    """The words of each row of a table, with the form and the demonstrations of its runs."""
    return [("the base", None, None), *((f"tuned with {k}", form, k) for k in TRAINED_SHOTS)]


def grid(form: str, matrix: Matrix) -> str:
    """Demonstrations in training (rows) and at test (columns), in the form that the runs were trained on."""
    columns = [(template, shots) for template in TEMPLATES for shots in TESTED_SHOTS]
    head = [f"{shots} shots, {TEMPLATES[template]}" for template, shots in columns]
    rows = [
        (words, *(cell(accuracy(cells(matrix, of, k, task_of(form, shots, t)))) for t, shots in columns))
        for words, of, k in _rows(form)
    ]
    return table((FORMS[form], *head), rows)


def specialization(matrix: Matrix) -> str:
    """Each form where the other was asked for: exact match, and the outputs in the format that was trained."""
    rows = []
    for form, other in (("none", "medium"), ("medium", "none")):
        for words, of, k in _rows(form):
            found = [cells(matrix, of, k, task_of(other, shots)) for shots in TESTED_SHOTS]
            trained = accuracy([c for of_shots in found for c in of_shots], "trained_format")
            share = DASH if trained is None or of is None else f"{trained.mean:.1%}"
            rows.append(
                (f"{words}, {FORMS[form]}" if of else f"{words}, asked for {FORMS[other]}",
                 *(cell(accuracy(of_shots)) for of_shots in found), share)
            )  # fmt: skip
    return table(("", *(f"{shots} shots" for shots in TESTED_SHOTS), "outputs in the trained format"), rows)


def examples(matrix: Matrix) -> str:
    """As many demonstrations at test as two, by the number of training examples."""
    rows = [
        (f"{FORMS[form]}, tuned with {k}",
         *(cell(accuracy(cells(matrix, form, k, task_of(form, "2"), n))) for n in EXAMPLES))
        for form in FORMS for k in TRAINED_SHOTS
    ]  # fmt: skip
    return table(("2 shots", *(f"{int(n):,} examples" for n in EXAMPLES)), rows)


def distances(matrix: Matrix) -> str:
    rows = []
    for form in FORMS:
        row = [FORMS[form]]
        for k in TRAINED_SHOTS:
            found = [
                run["distances"]["all"]["relative"]
                for run in matrix.get("runs", ())
                if (of := tuned(run["label"])) and of[1:] == (form, k, DEFAULT_EXAMPLES) and run["distances"]
            ]
            row.append(f"{statistics.mean(found):.4f} ({min(found):.4f} to {max(found):.4f})" if found else DASH)
        rows.append(row)
    return table(("relative distance from the base", *(f"tuned with {k}" for k in TRAINED_SHOTS)), rows)


def tuning(matrix: Matrix) -> str:
    """The mean change from the base on its tasks by split, and how many of them are gains and losses."""
    splits = {of["task"]: SPLIT.sub(r"\1", of["task"]).replace("_", " ") for of in matrix.get("evaluations", ())}
    names = list(dict.fromkeys(splits.values()))
    rows = []
    for form in FORMS:
        for k in TRAINED_SHOTS:
            changes = [
                d for d in matrix.get("differences", ())
                if (of := tuned(d["run"])) and of[1:] == (form, k, DEFAULT_EXAMPLES)
            ]  # fmt: skip
            row = [f"{FORMS[form]}, tuned with {k}"]
            for name in names:
                values = [d["value"] for d in changes if splits[d["task"]] == name]
                row.append(f"{100 * statistics.mean(values):+.1f}" if values else DASH)
            kinds = [d["transfer"] for d in changes]
            row.append(f"{kinds.count(POSITIVE)}, {kinds.count(NEGATIVE)} of {len(kinds)}" if kinds else DASH)
            rows.append(row)
    return table(("points", *names, "gains, losses"), rows)


# Each with the matrix that fills it.
TABLES: dict[str, tuple[Callable[[Matrix], str], str]] = {
    "few_shot_none": (lambda matrix: grid("none", matrix), "few_shot"),
    "few_shot_medium": (lambda matrix: grid("medium", matrix), "few_shot"),
    "few_shot_specialization": (specialization, "few_shot"),
    "few_shot_examples": (examples, "few_shot"),
    "few_shot_distances": (distances, "few_shot"),
    "few_shot_tuning": (tuning, "tuning"),
}


def render(name: str, found: dict[str, Matrix]) -> str:
    """Returns a table in Markdown, of dashes where its matrix is not there."""
    function, matrix = TABLES[name]
    return f"{function(found.get(matrix, {}))}\n\nFrom results/transfer/{matrix}/transfer.json."
