"""Metrics of labels that are ranked by their likelihood, raw and normalized by length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainft.evaluation.targets import read_target
from explainft.generation.generator import Ranking
from explainft.generation.likelihood import probabilities

NORMALIZED = "_normalized"  # ends the name of a metric of likelihoods that are normalized by length


def gold_text(target: Any, record: Mapping[str, Any]) -> str:
    """Returns the label that is an example's gold answer, by its postprocessed target, or else its target text."""
    found = read_target(target)
    return record["targets_pretokenized"] if found is None else str(found.example["answer"])


def label_metrics(rankings: Sequence[Ranking], gold: Sequence[str], by_length: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics that ranked labels have beside those of any prediction.

    `by_length` are the metrics of the labels that lead by likelihood normalized by length: of those, exact_match and
    its interval are kept, as exact_match_normalized. gold_probability is the mean probability of the gold label among
    the labels, gold_log_likelihood the mean log-likelihood of the gold label among all texts. The two are of the
    examples whose gold text is a label as it stands.
    """
    kept = ("exact_match", "exact_match_low", "exact_match_high")
    metrics = {
        name.replace("exact_match", f"exact_match{NORMALIZED}"): by_length[name] for name in kept if name in by_length
    }
    places = [
        (ranking, ranking.labels.index(text))
        for ranking, text in zip(rankings, gold, strict=True)
        if text in ranking.labels
    ]
    if not places:
        return metrics
    for ending in ("", NORMALIZED):
        found = [
            probabilities(np.array([ranking.scores(normalized=bool(ending))]))[0, place] for ranking, place in places
        ]
        metrics[f"gold_probability{ending}"] = float(np.mean(found))
    likelihoods = [ranking.log_likelihoods[place] for ranking, place in places]
    return {**metrics, "gold_log_likelihood": float(np.mean(likelihoods))}
