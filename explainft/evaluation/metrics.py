"""Metrics of predicted explanations and answers. Pure Python, for SeqIO tasks and the built-in engine alike."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from explainft.data.sample_datasets import LABELS
from explainft.evaluation.targets import read_target

METRICS_SUFFIX = "-metrics.jsonl"  # of the file of a task's scores, as seqio.JSONLogger names it


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the Wilson score interval of a proportion, (low, high), 95% for z = 1.96. No trials: (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    margin = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, centre - margin), min(1.0, centre + margin)


def score(targets: Sequence[Mapping[str, Any]], predictions: Sequence[str]) -> dict[str, float]:
    """Scores predictions by the problem of each target, which a postprocessor of `targets` made; a SeqIO metric_fn.

    exact_match is the fraction of correct final answers, with its Wilson 95% interval; parseable the fraction with any
    final answer. Where explanations can be checked, valid is the fraction of them that are correct in every step and in
    the answer, step_accuracy the fraction of correct steps among all steps of all examples, and steps_unreadable, if
    there are any, the fraction of steps that cannot be checked. Where answers are choices, chance is the accuracy of
    a random one. exact_match/<group> and n/<group> are those of the problem's groups, such as operator/MAX.
    """
    counts: dict[str, float] = defaultdict(float)
    group_n: dict[str, int] = defaultdict(int)
    group_correct: dict[str, int] = defaultdict(int)
    for gold, prediction in zip(targets, predictions, strict=True):
        target = read_target(gold)
        if target is None:
            raise ValueError(f"{gold!r} must be what a postprocessor of explainft.evaluation.targets returns")
        answer = target.read_answer(prediction)
        correct = target.is_correct(answer)
        check = target.check(prediction)
        if check is not None:
            counts["valid"] += check.valid and correct
            counts["checked"] += 1
            counts["steps"] += check.total
            counts["steps_correct"] += check.correct
            counts["steps_unreadable"] += check.unreadable
        chance = target.problem.chance(target.example)
        if chance is not None:
            counts["chance"] += chance
        counts["correct"] += correct
        counts["parseable"] += answer is not None
        for name, group in target.problem.groups(target.example).items():
            group_n[f"{name}/{group}"] += 1
            group_correct[f"{name}/{group}"] += correct

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
        metrics["valid"] = _fraction(counts["valid"], n)
        metrics["step_accuracy"] = _fraction(counts["steps_correct"], counts["steps"])
    if counts["steps_unreadable"]:
        metrics["steps_unreadable"] = _fraction(counts["steps_unreadable"], counts["steps"])
    if counts["chance"]:
        metrics["chance"] = _fraction(counts["chance"], n)
    for group in sorted(group_n):
        metrics[f"exact_match/{group}"] = _fraction(group_correct[group], group_n[group])
        metrics[f"n/{group}"] = group_n[group]
    return metrics


def label_balance(targets: Sequence[Mapping[str, Any]], predictions: Sequence[str]) -> dict[str, float]:
    """Scores a verifier's balance; a SeqIO metric_fn. Examples of other tasks in a joint dataset are left out.

    label_correct is the fraction of solutions that are correct, predicted_correct that of the predictions `correct`,
    and balanced_accuracy the mean of the accuracies on correct and on incorrect solutions.
    """
    correct, _ = LABELS
    hits: dict[str, list[bool]] = {label: [] for label in LABELS}
    predicted = []
    for gold, prediction in zip(targets, predictions, strict=True):
        target = read_target(gold)
        if target is not None and target.example.get("choices") == list(LABELS):
            answer = target.read_answer(prediction)
            hits[target.example["answer"]].append(target.is_correct(answer))
            predicted.append(answer == correct)
    n = len(predicted)
    found = [sum(of_label) / len(of_label) for of_label in hits.values() if of_label]
    return {
        "label_correct": _fraction(len(hits[correct]), n),
        "predicted_correct": _fraction(sum(predicted), n),
        "balanced_accuracy": _fraction(sum(found), len(found)),
    }


def _fraction(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
