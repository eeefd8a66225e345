"""Measures against definitions and against values counted by hand."""

import itertools
import math

import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.voting import calibration
from explainft.voting.calibration import auroc, brier, calibrate, ece, reliability_bins


def of_pairs(scores, correct):
    """AUROC by its definition: over all pairs of a correct and an incorrect sample."""
    pairs = itertools.product(scores[correct], scores[~correct])
    return float(np.mean([0.5 * (a == b) + (a > b) for a, b in pairs]))


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_fraction_of_ordered_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, correct = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.4  # many ties
    assert auroc(scores, correct) == pytest.approx(of_pairs(scores, correct))


def test_auroc_of_fractions_is_that_of_all_pairs():
    values, correct = np.array([0.1, 0.4, 0.4, 0.9, 0.9]), np.array([0.0, 1.0, 0.0, 0.5, 1.0])
    pairs = [(correct[i] * (1 - correct[j]), values[i] - values[j]) for i in range(5) for j in range(5)]
    expected = sum(w * (1.0 if d > 0 else 0.5 if d == 0 else 0) for w, d in pairs) / sum(w for w, _ in pairs)
    # A half-correct vote is beside itself: that pair is tied, as all pairs of equal values are.
    total = sum(correct) * (5 - sum(correct))
    assert auroc(values, correct) == pytest.approx(expected * sum(w for w, _ in pairs) / total)
    assert math.isnan(auroc(values, np.ones(5)))


def test_auroc_of_weights_is_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    scores, correct, weights = rng.integers(0, 6, 30) / 5, rng.random(30) < 0.5, rng.integers(0, 4, 30)
    repeated = np.repeat(scores, weights), np.repeat(correct, weights)
    assert calibration.SortedScores(scores, correct).auroc(weights) == pytest.approx(of_pairs(*repeated))
    assert brier(scores, correct, weights) == pytest.approx(brier(*repeated))
    assert ece(scores, correct, weights) == pytest.approx(ece(*repeated))


def test_ece_and_brier_by_hand():
    scores, correct = np.array([0.95, 0.92, 0.15, 1.0]), np.array([True, False, False, True])
    # The bin of 0.9 to 1: accuracy 2/3, mean score 0.9567; the bin of 0.1: accuracy 0, mean score 0.15.
    assert ece(scores, correct) == pytest.approx(3 / 4 * abs(2 / 3 - 2.87 / 3) + 0.15 / 4)
    assert brier(scores, correct) == pytest.approx((0.05**2 + 0.92**2 + 0.15**2) / 4)
    bins = reliability_bins(scores, correct)
    assert [found.n for found in bins] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert bins[9].accuracy == pytest.approx(2 / 3) and math.isnan(bins[0].accuracy)


def of_problems(scores, correct, lengths=None):
    n = len(scores)
    return calibrate(scores, correct, [1] * n if lengths is None else lengths, [str(i // 4) for i in range(n)])


def test_a_perfect_verifier_and_one_that_leaks_the_length():
    correct = [bool(i % 2) for i in range(40)]
    perfect = of_problems([float(c) for c in correct], correct, [10 + c for c in correct])
    assert perfect.auroc.value == perfect.length_auroc.value == 1.0
    assert perfect.ece.value == perfect.brier.value == 0.0
    assert perfect.auroc.interval == (1.0, 1.0)


def test_intervals_hold_the_value_and_resample_problems():
    rng = np.random.default_rng(0)
    correct = np.repeat(rng.random(50) < 0.5, 4)  # a problem is all correct or all incorrect
    scores = np.clip(correct * 0.2 + rng.random(200) * 0.8, 0, 1)
    found = of_problems(scores.tolist(), correct.tolist())
    alone = calibrate(scores.tolist(), correct.tolist(), [1] * 200, [str(i) for i in range(200)])
    low, high = found.brier.interval
    assert low < found.brier.value < high
    assert repr(of_problems(scores.tolist(), correct.tolist())) == repr(found)  # deterministic; NaN is not equal to NaN
    assert found.auroc.value == alone.auroc.value and found.auroc.interval != alone.auroc.interval


def test_one_class_only_is_stated():
    found = of_problems([0.5, 0.7, 0.9, 0.2], [True] * 4)
    assert math.isnan(found.auroc.value) and math.isnan(found.auroc.interval[0])
    assert found.lines()[1] == "AUROC is undefined: all samples are correct; score samples of both classes"
    assert "all samples are incorrect" in of_problems([0.5] * 4, [False] * 4).lines()[1]


def test_scores_of_difficulty_alone_rank_nothing_within_problems():
    """Two hard problems have low scores and two easy ones high scores, the same for all samples of a problem."""
    correct = [True, False, False, False] * 2 + [True, True, True, False] * 2 + [True] * 4
    found = of_problems([0.2] * 8 + [0.8] * 8 + [0.9] * 4, correct)
    assert found.auroc.value > 0.7 and found.auroc_within.value == 0.5
    assert found.auroc_within.interval == (0.5, 0.5)
    within = of_problems([0.6, 0.5, 0.4, 0.3, 0.9, 0.8, 0.7, 0.6], [True, False, False, False, False, True, True, True])
    assert within.auroc_within.value == pytest.approx((1 + 0) / 2)
    assert "AUROC within problems 0.500 (0.000 to 1.000)" in within.lines()
    apart = of_problems([0.5] * 8, [True] * 4 + [False] * 4)
    assert "AUROC within problems undefined" in apart.lines()


def test_equal_scores_rank_nothing():
    assert of_problems([0.5] * 8, [True, False] * 4).auroc.value == 0.5


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.5])
def test_scores_that_are_not_probabilities_are_refused(bad):
    with pytest.raises(UserError, match="1 of 4 scores are not between 0 and 1; score again"):
        of_problems([0.5, bad, 0.5, 0.5], [True, False, True, False])


def test_no_samples_are_refused():
    with pytest.raises(UserError, match="no scored samples"):
        calibrate([], [], [], [])
