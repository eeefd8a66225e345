"""Generates the reference pages of the site from the code: a hook of mkdocs.

    reference/cli.md       from the argument parsers of the commands
    reference/macros.md    from the packaged recipes and the signatures that their macros fill
    reference/tasks.md     from the SeqIO registry
    reference/metrics.md   from the scores of a perfect predictor

The build fails where a macro or a metric has no entry in reference_terms.py, or an entry no macro.
"""

import argparse
import dataclasses
import importlib
import inspect
import math
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # mkdocs loads hooks by their path

from reference_terms import MACROS, METRICS, RECIPES  # noqa: E402

from explainft import listops  # noqa: E402
from explainft.cli import main  # noqa: E402
from explainft.core import tensorflow_setup  # noqa: E402
from explainft.data.questions import forms  # noqa: E402
from explainft.evaluation import metrics, overlap  # noqa: E402
from explainft.evaluation.label_metrics import label_metrics  # noqa: E402
from explainft.evaluation.targets import postprocess_listops, postprocess_question  # noqa: E402
from explainft.generation.generator import Ranking  # noqa: E402
from explainft.listops.configs import CONFIGS, EVAL_SPLITS  # noqa: E402

WIRING = ROOT / "explainft" / "recipes" / "wiring"


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages to the site."""
    from mkdocs.structure.files import File

    for name, content in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def pages() -> dict[str, str]:
    """Returns the generated pages by name."""
    return {"cli": cli_page(), "macros": macros_page(), "tasks": tasks_page(), "metrics": metrics_page()}


# ---- Command line.


def cli_page() -> str:
    """Returns a section per command, with the table of its arguments."""
    lines = [
        "# Command line",
        "",
        "A user's error is one line on standard error and exit code 2. Any command that reads",
    ]
    lines += ["a recipe also takes `--gin.NAME=VALUE`, which sets a [macro](macros.md).", ""]
    for name, parser in _commands("explainft", main.build_parser()):
        usage = parser.format_usage().removeprefix("usage: ").strip()
        lines += [f"## {name}", "", parser.description or "", "", "```text", usage, "```", ""]
        rows = [_argument_row(action) for action in parser._actions if _is_shown(action)]
        lines += ["| argument | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def _commands(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yields the commands without subcommands, with their full names."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not subparsers:
        yield name, parser
    for action in subparsers:
        for word, command in action.choices.items():
            yield from _commands(f"{name} {word}", command)


def _is_shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS


def _argument_row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    choices = " or ".join(f"`{choice}`" for choice in action.choices or ())
    text = "; ".join(filter(None, [choices, action.help])).replace("<", "&lt;").replace("[", "\\[")
    return f"| {names} | {_escape(text)} |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


# ---- Macros.


@dataclasses.dataclass
class Macro:
    """A setting of the recipes: the types of the arguments that it fills, and its default per recipe."""

    types: list[str] = dataclasses.field(default_factory=list)
    defaults: dict[str, str] = dataclasses.field(default_factory=dict)
    builtin_only: bool = False


def macros_page() -> str:
    """Returns the table of the macros. Raises KeyError where a meaning is missing or superfluous."""
    macros = read_macros()
    if differing := macros.keys() ^ MACROS.keys():
        raise KeyError(f"MACROS of docs/reference_terms.py and the recipes differ in {', '.join(sorted(differing))}")
    lines = [
        "# Macros",
        "",
        "`--gin.NAME=VALUE` sets a macro of a recipe. A name that nothing reads is an error, and a",
    ]
    lines += ["value is checked against the type of the argument that it fills. The built-in engine alone reads those"]
    lines += ["marked *. A dash: the recipe has no such macro. `required`: a recipe or the command line gives it.", ""]
    lines += [f"| macro | meaning | type | {' | '.join(RECIPES)} |", f"|---|---|---|{'---|' * len(RECIPES)}"]
    for name, meaning in MACROS.items():
        macro = macros[name]
        types = " or ".join(f"`{annotation}`" for annotation in dict.fromkeys(macro.types)) or "-"
        defaults = [macro.defaults.get(recipe, "-") for recipe in RECIPES]
        cells = [f"`{name}`" + "\\*" * macro.builtin_only, meaning, types, *defaults]
        lines.append(f"| {' | '.join(map(_escape, cells))} |")
    return "\n".join([*lines, ""])


def read_macros() -> dict[str, Macro]:
    """Returns the macros of the packaged recipes, from their text and from the signatures that the wiring fills."""
    macros: dict[str, Macro] = {}
    for recipe, path in RECIPES.items():
        for name, value, builtin_only in _assignments(path):
            macro = macros.setdefault(name, Macro())
            macro.builtin_only |= builtin_only
            macro.defaults[recipe] = "`required`" if value == "%gin.REQUIRED" else f"`{value}`"
    for name, annotation in _arguments():
        if name in macros:
            macros[name].types.append(annotation)
    return macros


def _assignments(path: str) -> Iterator[tuple[str, str, bool]]:
    """Yields (macro, value, whether the built-in engine alone reads it) of a gin file and its includes, in order."""
    file = WIRING / path.removeprefix("gin/t5x/") if path.startswith("gin/t5x/") else ROOT / path
    builtin_only = False
    for line in file.read_text(encoding="utf-8").split("\n"):
        builtin_only |= line.startswith("# ---- read by the built-in engine alone")
        if include := re.fullmatch(r"include '(.*)'", line):
            yield from _assignments(include[1])
        elif assignment := re.fullmatch(r"([A-Z][A-Z0-9_]*) = (.*?)(\s+#.*)?", line):
            yield assignment[1], assignment[2], builtin_only


def _arguments() -> Iterator[tuple[str, str]]:
    """Yields (macro, annotation) of every argument that the engine's wiring fills with a macro."""
    for path in sorted(WIRING.rglob("*.gin")):
        modules: dict[str, str] = {}
        block = ""
        for line in path.read_text(encoding="utf-8").split("\n"):
            if imported := re.fullmatch(r"from ([\w.]+) import (\w+)", line):
                modules[imported[2]] = f"{imported[1]}.{imported[2]}"
            elif header := re.fullmatch(r"([\w.]+):", line):
                block = header[1]
            elif bound := re.fullmatch(r"(?:  |([\w.]+)\.)(\w+) = %([A-Z]\w+)(?:\s+#.*)?", line):
                yield bound[3], _annotation(modules, bound[1] or block, bound[2])


def _annotation(modules: dict[str, str], target: str, parameter: str) -> str:
    module, _, name = target.partition(".")
    function = getattr(importlib.import_module(modules[module]), name)
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    if parameter not in hints:
        return "-"
    shown = re.sub(r"[\w.]+\.(\w+)", r"\1", inspect.formatannotation(hints[parameter]))
    return "Callable" if shown.startswith("Callable") else shown


# ---- Tasks and metrics.


def tasks_page() -> str:
    """Returns the tables of the registered tasks and mixtures."""
    tensorflow_setup.import_tensorflow()  # without its log lines
    import tasks

    lines = ["# Tasks", "", "`import tasks` registers them with SeqIO and opens no file.", ""]
    splits = ", ".join(f"`{split}`" for split in EVAL_SPLITS)
    lines += ["| name | what it is |", "|---|---|"]
    lines += ["| `explained_<config>_<style>` | training, splits `train` and `validation` |"]
    lines += [f"| `explained_<config>_<style>_eval_<split>` | evaluation on one split of the dataset: {splits} |"]
    lines += ["| `explained_<config>_<style>_eval` | the mixture of these evaluation tasks |", ""]
    lines += [
        "With the suffix `_compact` they use the vocabulary that ships with the package: 159 tokens, each digit a"
    ]
    lines += ["token of its own, newlines kept. Without it they use T5's, read from the path in `EXPLAINFT_T5_VOCAB`"]
    lines += ["(default: its public bucket).", "", "| config | styles |", "|---|---|"]
    styles = ", ".join(f"`{style}`" for style in tasks.TASK_STYLES)
    lines += [f"| `{config}` | {styles} |" for config in CONFIGS]
    lines.append("")
    modules = ("tasks", "tasks.questions", "tasks.samples", "tasks.multitask", "tasks.few_shot", "tasks.base")
    for module in modules:
        lines += [f"::: {module}", "    options:", "      members: false", "      heading_level: 2", ""]
    return "\n".join(lines)


def metrics_page() -> str:
    """Returns the metrics of the tasks, with their values for a perfect predictor of ListOps and of two questions."""
    expression = "[MAX 2 9 [MIN 4 7 ] 0 ]"
    tree = listops.parse(expression)
    example = {"expression": expression, "answer": listops.evaluate(tree)}
    target = postprocess_listops("", example, is_target=True, style="medium")
    scores = metrics.score([target], [listops.explain(tree, "medium")])
    lines = ["# Metrics", "", f"Of `{expression}` and its gold explanation in the style `medium`:", ""]
    lines += _metrics_table(scores)
    lines += ["Of an imported question with choices, and of one of mathematics, with their gold targets:", ""]
    lines += _metrics_table({**_question_scores("choice"), **_question_scores("math")})
    lines += [f"The built-in engine adds `cut`: {METRICS['cut']}.", ""]
    lines += ["Of explanations and of answers of free text, with those of a perfect predictor:", ""]
    lines += _metrics_table({**overlap.rouge_l(["so it is"], ["so it is"]), **overlap.bleu(["so it is"], ["so it is"])})
    ranking = Ranking(("sea", "open air"), (math.log(0.4), math.log(0.1)), (2, 3))
    lines += ["Of ranked labels, with p(sea) = 0.4 of 2 tokens, the gold label, and p(open air) = 0.1 of 3:", ""]
    by_length = {"exact_match": 0.0, "exact_match_low": 0.0, "exact_match_high": metrics.wilson(0, 1)[1]}
    lines += _metrics_table(label_metrics([ranking], ["sea"], by_length))
    lines += [f"`left_out` is the {METRICS['left_out']}.", ""]
    functions = "metrics.score", "metrics.wilson", "overlap.score", "label_metrics.label_metrics"
    return "\n".join([*lines, *(f"::: explainft.evaluation.{name}" for name in functions), ""])


def _metrics_table(scores: dict[str, float]) -> list[str]:
    lines = ["| metric | value | meaning |", "|---|--:|---|"]
    return [*lines, *(f"| `{name}` | {score:.3g} | {_meaning(name)} |" for name, score in scores.items()), ""]


def _question_scores(problem: str) -> dict[str, float]:
    choices = {"choice": ["24", "2"], "math": []}[problem]
    fields = {"choice": "{}", "math": '{"subject": "Arithmetic", "level": "1"}'}[problem]
    record = {"id": "1", "question": "Half of 48?", "choices": choices, "answer": "24", "fields": fields}
    record["explanation"] = "48 / 2 = 24."
    target = postprocess_question("", record, is_target=True, problem=problem, form="explain_answer")
    return metrics.score([target], [forms.target_text("explain_answer", record["answer"], record["explanation"])])


def _meaning(name: str) -> str:
    """Returns the meaning of a metric or of its group, such as exact_match/depth/2. Raises KeyError without one."""
    return METRICS[name] if "/" not in name else METRICS[name.rpartition("/")[0]]
