"""Metrics of predicted explanations and answers. Pure Python, for SeqIO tasks and the built-in engine alike."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from explainft import listops

METRICS_SUFFIX = "-metrics.jsonl"  # of the file of a task's scores, as seqio.JSONLogger names it
# Styles whose steps can be checked: "none" has no steps, and those of "shuffled" have no order.
CHECKED_STYLES = ("short", "medium", "long")


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the Wilson score interval of a proportion, (low, high), 95% for z = 1.96. No trials: (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    margin = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, centre - margin), min(1.0, centre + margin)


def postprocess(
    text: str | bytes,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    *,
    style: str,
    modulus: int = 10,
) -> Any:
    """Postprocesses as SeqIO asks. A prediction stays text; a target becomes what `score` needs of its example.

    The example has the fields `expression` and `answer`, as numpy values, bytes or JSON. The gold text is not used:
    `score` derives every step from the expression.
    """
    if not is_target:
        return _text(text)
    if example is None:
        raise ValueError("a target needs its example: the fields expression and answer")
    return {
        "expression": _text(example["expression"]),
        "answer": int(example["answer"]),
        "style": style,
        "modulus": modulus,
    }


def score(targets: Sequence[Mapping[str, Any]], predictions: Sequence[str]) -> dict[str, float]:
    """Scores the results of `postprocess`; a SeqIO metric_fn.

    exact_match is the fraction of correct final answers, with its Wilson 95% interval; parseable the fraction with any
    final answer. For the styles that can be checked, valid is the fraction of explanations correct in every step and in
    the answer, and step_accuracy the fraction of correct steps among all steps of all examples.
    exact_match/<group> and n/<group> split the examples three ways: by the root's operator (the last operation before
    the answer), by depth, and by length, in buckets of 5 and from 60 on of 10.
    """
    counts: dict[str, int] = defaultdict(int)
    group_n: dict[str, int] = defaultdict(int)
    group_correct: dict[str, int] = defaultdict(int)
    for target, prediction in zip(targets, predictions, strict=True):
        tree = listops.parse(target["expression"])
        if target["style"] in CHECKED_STYLES:
            check = listops.check(prediction, tree, target["style"], target["modulus"])
            answer = check.final_answer
            counts["valid"] += check.valid
            counts["checked"] += 1
            counts["steps"] += check.steps_total
            counts["steps_correct"] += check.steps_correct
        else:
            answer = listops.final_answer(prediction)
        correct = answer == target["answer"]
        counts["correct"] += correct
        counts["parseable"] += answer is not None
        for group in _groups(tree):
            group_n[group] += 1
            group_correct[group] += correct

    n = len(targets)
    low, high = wilson(counts["correct"], n)
    metrics: dict[str, float] = {
        "exact_match": _fraction(counts["correct"], n),
        "exact_match_low": low,
        "exact_match_high": high,
        "n": n,
        "parseable": _fraction(counts["parseable"], n),
    }
    if counts["checked"]:
        metrics["valid"] = _fraction(counts["valid"], counts["checked"])
        metrics["step_accuracy"] = _fraction(counts["steps_correct"], counts["steps"])
    for group in sorted(group_n):
        metrics[f"exact_match/{group}"] = _fraction(group_correct[group], group_n[group])
        metrics[f"n/{group}"] = group_n[group]
    return metrics


def _groups(tree: listops.Tree) -> Iterator[str]:
    yield f"operator/{listops.operators(tree)[-1]}"
    yield f"depth/{listops.depth(tree)}"
    length = listops.length(tree)
    width = 5 if length < 60 else 10
    start = length - length % width
    yield f"length/{start}-{start + width - 1}"


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
