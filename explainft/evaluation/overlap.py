"""Overlap of free texts with their references: ROUGE-L and BLEU, each with a bootstrap interval over examples.

ROUGE-L is the F-measure of rouge-score (Lin 2004), BLEU that of a corpus by sacrebleu (Post 2018), both from 0 to 1.
The libraries are imported where the first text is scored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainft.data import multitask
from explainft.evaluation.targets import Target, read_target

RESAMPLES, SEED = 1000, 0  # of the bootstrap
ORDER = 4  # of BLEU's longest n-grams


def score(targets: Sequence[Mapping[str, Any]], predictions: Sequence[str]) -> dict[str, float]:
    """Scores the texts of predictions against their references; a SeqIO metric_fn.

    The text is the explanation where the task's form has one, else the answer of a question of free text. Examples
    without a reference, such as a gold explanation, are left out; n_texts is the number of the others. rouge_l and bleu
    have 95% intervals, rouge_l_low to rouge_l_high and the same for bleu: the percentiles of RESAMPLES samples of the
    examples with replacement, always the same ones.
    """
    pairs = []
    for gold, prediction in zip(targets, predictions, strict=True):
        target = read_target(gold)
        if target is not None and (reference := reference_text(target)):
            pairs.append((reference, compared_text(target, prediction)))
    if not pairs:
        return {}
    references, texts = zip(*pairs, strict=True)
    return {**rouge_l(references, texts), **bleu(references, texts), "n_texts": len(pairs)}


def reference_text(target: Target) -> str:
    """Returns the gold text that outputs are compared with; "" where there is none, as for permuted words."""
    if multitask.SHUFFLED in (target.form or ""):
        return ""
    if _explains(target):
        return str(target.example.get("explanation") or "")
    return str(target.example["answer"]) if target.problem.name == "text" else ""


def compared_text(target: Target, output: str) -> str:
    """Returns the part of an output that is compared with the reference."""
    return target.explanation(output) if _explains(target) else output


def _explains(target: Target) -> bool:
    return target.form not in (None, "answer")


def rouge_l(references: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Returns the mean ROUGE-L F-measure and its interval."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    found_N = np.array(
        [scorer.score(reference, text)["rougeL"].fmeasure for reference, text in zip(references, texts, strict=True)]
    )
    resampled = _resamples(len(found_N)) @ found_N / len(found_N)
    return _with_interval("rouge_l", float(found_N.mean()), resampled)


def bleu(references: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Returns the BLEU of all texts as one corpus and its interval.

    N-grams that are longer than all texts do not count (sacrebleu's effective order), so that short texts, such as
    answers of one word, can reach 1.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    counts = []  # of each example: n-grams that match, all n-grams, and the two lengths
    for reference, text in zip(references, texts, strict=True):
        found = metric.corpus_score([text], [[reference]])
        counts.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    counts_NC = np.array(counts, np.int64)

    def of_corpus(counts_C: np.ndarray) -> float:
        *_, sys_len, ref_len = values = counts_C.tolist()
        found = BLEU.compute_bleu(
            values[:ORDER], values[ORDER : 2 * ORDER], sys_len, ref_len, smooth_method="exp", effective_order=True
        )
        return min(1.0, found.score / 100)  # 100.00000000000004 of a perfect one

    resampled = [of_corpus(counts_C) for counts_C in _resamples(len(counts_NC)) @ counts_NC]
    return _with_interval("bleu", of_corpus(counts_NC.sum(axis=0)), np.array(resampled))


def _resamples(n: int) -> np.ndarray:
    """Returns how often each of n examples is in each sample of n with replacement, [RESAMPLES, n]."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)


def _with_interval(name: str, value: float, resampled: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
