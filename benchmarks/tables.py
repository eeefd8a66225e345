"""Markdown tables of the benchmark results."""

import functools
import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASELINE = "Hugging Face"
# Packages whose version a table names besides Python's and JAX's, where a contender's name contains the key.
PACKAGES = {
    "Hugging Face": ("torch", "transformers"),
    "torch": ("torch",),
    "CTranslate2": ("ctranslate2",),
    "T5X": ("t5x",),
}
LOWER_BOUND = "lower bound of explainft in seconds"

# The target for explainft's rate relative to a baseline's: the file, the work, and the target per baseline.
RELATIVE_TARGETS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("train_step", "train step", {"Hugging Face": 1.1}),
    ("train_step_dropout", "train step with dropout", {"Hugging Face": 1.35, "T5X": 3.0, "T5X, synchronous": 1.5}),
    ("fine_tune", "fine-tuning", {"Hugging Face": 2.0, "Hugging Face, grouped by length": 1.5}),
    ("decode", "greedy decoding", {"T5X": 3.0, "Hugging Face": 2.8, "CTranslate2 int8": 1.1}),
    ("evaluate", "evaluation", {"Hugging Face": 3.0}),
    ("sample", "sampling", {"Hugging Face": 5.0}),
)
TASK_VOCABULARY = ("explainft, OUTPUT_VOCABULARY=task", "explainft, task vocabulary")  # in float32
FRACTION = ("facts", "explainft's fraction of matmul, JAX")
# Absolute targets: the work, its file, the path of the measured value, the target, and whether more is better.
ABSOLUTE_TARGETS: tuple[tuple[str, str, tuple[str, ...], float, bool], ...] = (
    ("train step, fraction of JAX's matmul throughput", "train_step", FRACTION, 0.85, True),
    ("train step with dropout, fraction of JAX's matmul throughput", "train_step_dropout", FRACTION, 0.85, True),
    ("fine-tuning, fraction of padding", "fine_tune", ("facts", "padding fraction of explainft"), 0.05, False),
    ("greedy decoding, tokens/s", "decode", ("contenders", "explainft", "rate", "median"), 1000.0, True),
    ("greedy decoding in int8, tokens/s", "decode", ("contenders", "explainft int8", "rate", "median"), 1000.0, True),
    ("data generation, examples/s per process", "dataset", ("contenders", "explainft", "rate", "median"), 5000.0, True),
    ("data generation, two processes relative to one", "dataset",
     ("facts", "throughput of two processes relative to one"), 2.0, True),
    ("`explainft --help`, s", "start", ("contenders", "explainft --help", "seconds", "median"), 0.5, False),
    ("first train step, s", "start", ("contenders", "explainft train, first step", "seconds", "median"), 8.0, False),
)  # fmt: skip
# The rows of the machine with AMX: the work, the file, and the names in float32, bfloat16 and int8.
AMX_ROWS: tuple[tuple[str, str, tuple[str, str | None, str | None]], ...] = (
    ("train step", "train_step_amx", ("explainft", "explainft, MATMUL_PRECISION=bfloat16", None)),
    ("train step with dropout", "train_step_dropout_amx", ("explainft", "explainft, MATMUL_PRECISION=bfloat16", None)),
    ("fine-tuning", "fine_tune_amx", ("explainft", "explainft, MATMUL_PRECISION=bfloat16", None)),
    ("greedy decoding", "decode_amx", ("explainft", "explainft bfloat16", "explainft int8")),
    ("evaluation", "evaluate_amx",
     ("explainft", "explainft, task vocabulary, bfloat16", "explainft, task vocabulary, int8")),
    ("sampling", "sample_amx",
     ("explainft", "explainft, task vocabulary, bfloat16", "explainft, task vocabulary, int8")),
)  # fmt: skip


def contender_table(report: Mapping[str, Any]) -> str:
    """Returns the table of a row's contenders, or of the operations of a profile."""
    source = f"`{report['command']}`: {report['machine']['cpu']}, {report['machine']['cores']} cores"
    if "fractions" in report:
        return _profile_table(report, source)
    contenders = report["contenders"]
    baseline = contenders.get(BASELINE)
    head = ["contender", "rate", "explainft's rate relative to it", f"rate relative to {BASELINE}", "peak memory"]
    rows = []
    unit = contenders[next(iter(contenders))]["unit"]
    for name, contender in contenders.items():
        if contender["unit"] != unit:
            continue  # the machine's own throughput, from which the upper limits are derived
        comparable = baseline and name != BASELINE
        relative = _rounded(contender["rate"]["median"] / baseline["rate"]["median"]) + "x" if comparable else ""
        ratio = _spread(report["ratios"][name]) + "x" if name in report["ratios"] else ""
        rate = f"{_spread(contender['rate'])} {contender['unit']}/s"
        rows.append([name, rate, ratio, relative, f"{contender['peak_memory'] / 2**30:.2f} GiB"])
    columns = [i for i, title in enumerate(head) if baseline or BASELINE not in title]
    lines = [f"{source}, {_versions(report)}; n = {report['repetitions']}, medians [minimum, maximum]", ""]
    lines += [f"| {' | '.join(row[i] for i in columns)} |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join([*lines, *(f"\nNot measured: {reason}." for reason in report["left_out"])])


def _profile_table(report: Mapping[str, Any], source: str) -> str:
    lines = [f"{source}; one repetition of {report['contender']}, {_rounded(report['seconds'])} s untraced", ""]
    lines += ["| compiled operation | fraction of the time |", "|---|--:|"]
    shown = {kind: fraction for kind, fraction in report["fractions"].items() if fraction >= 0.01}
    lines += [f"| `{kind}` | {fraction:.0%} |" for kind, fraction in shown.items()]
    hidden = len(report["fractions"]) - len(shown)
    return "\n".join([*lines, f"| {hidden} others | {1 - sum(shown.values()):.0%} |"])


def _versions(report: Mapping[str, Any]) -> str:
    packages = ["commit"] if "commit" in report["versions"] else []
    packages += ["python", "jax"]
    for part, names in PACKAGES.items():
        if any(part in contender for contender in report["contenders"]):
            packages += names
    return ", ".join(f"{name} {report['versions'][name]}" for name in dict.fromkeys(packages))


def relative_target_table(directory: Path) -> str:
    """Returns explainft's rate relative to each baseline's (ratios of medians) with its target and upper limit."""
    head = ["work", "baseline", "target", "matmul-bound upper limit", "float32", "task vocabulary", "fastest option"]
    lines = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|--:|:--|"]
    for name, work, targets in RELATIVE_TARGETS:
        path = directory / f"{name}.json"
        report = json.loads(path.read_text()) if path.is_file() else {"contenders": {}, "facts": {}}
        lines += [_target_row(report, work, baseline, target) for baseline, target in targets.items()]
    return "\n".join(lines)


def _target_row(report: Mapping[str, Any], work: str, baseline: str, target: float) -> str:
    contenders, bound = report["contenders"], report["facts"].get(LOWER_BOUND)
    rates = {name: found["rate"]["median"] for name, found in contenders.items()}
    if baseline not in rates:
        return f"| {work} | {baseline} | {target:g}x | - | - | - | - |"
    relative = {name: rate / rates[baseline] for name, rate in rates.items() if name.startswith("explainft")}
    fastest = max(relative, key=lambda name: relative[name])
    options = fastest.removeprefix("explainft").strip(", ")
    reached = f"{relative[fastest]:.3g}x" + (f": {options}" if options else "")
    task_vocabulary = next((f"{relative[name]:.3g}x" for name in TASK_VOCABULARY if name in relative), "-")
    limit = f"{contenders['explainft']['work'] / bound / rates[baseline]:.3g}x" if bound else "-"
    return (
        f"| {work} | {baseline} | {target:g}x | {limit} | {relative['explainft']:.3g}x | {task_vocabulary} | "
        f"{reached} |"
    )


def absolute_target_table(directory: Path) -> str:
    """Returns the absolute targets and whether they are reached."""
    lines = ["| measure | target | measured | reached |", "|---|--:|--:|:--|"]
    for measure, name, keys, target, more in ABSOLUTE_TARGETS:
        path = directory / f"{name}.json"
        bound = f"{'at least' if more else 'below'} {target:,g}"
        if not path.is_file():
            lines.append(f"| {measure} | {bound} | - | - |")
            continue
        value = functools.reduce(operator.getitem, keys, json.loads(path.read_text()))
        reached = "yes" if (value >= target if more else value < target) else "no"
        lines.append(f"| {measure} | {bound} | {f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'} | {reached} |")
    return "\n".join(lines)


def amx_table(directory: Path) -> str:
    """Returns explainft's rates on the machine with AMX, relative to Hugging Face in float32."""
    head = ["work", "Hugging Face, float32", "float32", "bfloat16", "int8"]
    lines = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|--:|"]
    for work, name, contenders in AMX_ROWS:
        path = directory / f"{name}.json"
        if not path.is_file():
            lines.append(f"| {work} | - | - | - | - |")
            continue
        report = json.loads(path.read_text())["contenders"]
        baseline = report[BASELINE]["rate"]
        cells = [f"{_spread(baseline)} {report[BASELINE]['unit']}/s"]
        for contender in contenders:
            found = report.get(contender)
            cells.append(f"{_rounded(found['rate']['median'] / baseline['median'])}x" if found else "-")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Mapping[str, float]) -> str:
    return f"{_rounded(values['median'])} [{_rounded(values['min'])}, {_rounded(values['max'])}]"


def _rounded(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
