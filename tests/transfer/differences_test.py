"""Intervals of differences."""

import numpy as np
import pytest

from explainft.evaluation.metrics import wilson
from explainft.transfer.differences import paired_difference, unpaired_difference


def test_unpaired_interval_is_newcombes():
    """56 of 70 against 48 of 80 (Newcombe 1998, Statistics in Medicine 17:873, method 10)."""
    found = unpaired_difference(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)
    assert found.transfer == "positive" and not found.paired


def test_paired_interval_covers_the_true_difference():
    """Over samples of 60 pairs whose correctness is correlated, nearly 95% of the intervals hold the difference."""
    rng = np.random.default_rng(0)
    probabilities = [0.45, 0.25, 0.1, 0.2]  # both, run alone, baseline alone, neither: a difference of 0.15
    covered, widths = 0, []
    for _ in range(2000):
        kinds = rng.choice(4, 60, p=probabilities)
        found = paired_difference((kinds < 2).tolist(), ((kinds == 0) | (kinds == 2)).tolist())
        covered += found.low <= 0.15 <= found.high
        widths.append(found.high - found.low)
    assert 0.93 <= covered / 2000 <= 0.98
    unpaired = unpaired_difference(0.7, wilson(42, 60), 0.55, wilson(33, 60))
    assert np.mean(widths) < unpaired.high - unpaired.low


@pytest.mark.parametrize("correct", [True, False])
def test_equal_runs_keep_an_interval(correct):
    found = paired_difference([correct] * 20, [correct] * 20)
    assert found.value == 0 and found.low < 0 < found.high and found.transfer == "unclear"


def test_sign_follows_the_run():
    better = paired_difference([True] * 20, [False] * 20)
    worse = paired_difference([False] * 20, [True] * 20)
    assert better.transfer == "positive" and worse.transfer == "negative"
    assert better.low == pytest.approx(-worse.high)


def test_metric_without_an_interval_is_unclear():
    found = unpaired_difference(0.9, None, 0.1, (0.0, 0.2))
    assert found.low is None and found.transfer == "unclear"
