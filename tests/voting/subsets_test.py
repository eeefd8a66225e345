"""Counting against every subset, one by one."""

import itertools
import math
import random
import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from explainft.voting import subsets

CASES = [
    (1, ()),
    (1, ((1, 1.0),)),
    (4, ((1, 1.0),)),  # three samples without an answer
    (4, ((1, 1.0), (1, 0.0), (1, 0.0), (1, 0.0))),
    (6, ((3, 0.0), (3, 1.0))),
    (7, ((3, 0.0), (2, 1.0), (1, 0.0))),
    (8, ((2, 1.0), (2, 0.0), (2, 0.0), (1, 0.0), (1, 0.0))),
    (8, ((2, 1.0), (2, 1.0), (2, 0.0), (1, 0.5))),
    (8, ((8, 1.0),)),
]


def brute_force(problem, k):
    """Accuracy and ties over all subsets of k samples, with exact arithmetic."""
    n, clusters = problem
    samples = [i for i, (size, _) in enumerate(clusters) for _ in range(size)]
    samples += [None] * (n - len(samples))
    accuracy, ties, number = Fraction(0), 0, 0
    for subset in itertools.combinations(samples, k):
        votes = Counter(answer for answer in subset if answer is not None)
        first = [answer for answer, count in votes.items() if count == max(votes.values())]
        number += 1
        ties += len(first) > 1
        if first:
            accuracy += sum(Fraction(clusters[answer][1]) for answer in first) / len(first)
    return float(accuracy / number), ties / number


def expect(problems, ks, found):
    for b, problem in enumerate(problems):
        for at, k in enumerate(ks):
            accuracy, ties = brute_force(problem, k)
            assert found.accuracy_BK[b, at] == pytest.approx(accuracy, abs=1e-12), (problem, k)
            assert found.tied_BK[b, at] == pytest.approx(ties, abs=1e-12), (problem, k)


@pytest.mark.parametrize("case", CASES)
def test_counting_equals_all_subsets(case):
    ks = list(range(1, case[0] + 1))
    expect([case], ks, subsets.majority([case], ks))


def random_problem(rng, n):
    sizes, left = [], n - rng.randrange(3)
    while left > 0:
        sizes.append(rng.randint(1, left))
        left -= sizes[-1]
    return n, tuple((size, rng.choice([0.0, 0.0, 1.0])) for size in sizes)


def test_problems_of_different_sizes_are_counted_together():
    rng = random.Random(0)
    problems = [random_problem(rng, rng.randint(5, 9)) for _ in range(40)]
    ks = [1, 2, 3, 5]
    expect(problems, ks, subsets.majority(problems, ks))


def test_counts_of_many_samples_stay_exact():
    """A majority needs 33 of 64 votes of two clusters: hypergeometric tails in integers."""
    n, size = 1000, 600
    [[accuracy]] = subsets.majority([(n, ((size, 1.0), (n - size, 0.0)))], [101]).accuracy_BK
    wins = sum(math.comb(size, v) * math.comb(n - size, 101 - v) for v in range(51, 102))
    assert accuracy == pytest.approx(wins / math.comb(n, 101), rel=1e-12)


def test_sampled_subsets_agree_within_their_error(monkeypatch):
    problems, ks = [(12, ((5, 1.0), (4, 0.0), (2, 0.0)))] * 3 + [(12, ((3, 0.0), (3, 1.0), (3, 0.0)))], [3, 6, 12]
    exact = subsets.majority(problems, ks)
    monkeypatch.setattr(subsets, "MAX_EXACT_WORK", 0)
    sampled = subsets.majority(problems, ks)
    error = np.sqrt(sampled.variance_BK)
    assert (error[:, :2] > 0).all() and (error[:, 2] == 0).all()
    assert (np.abs(sampled.accuracy_BK - exact.accuracy_BK) <= 4 * error + 1e-12).all()


def test_error_of_equal_problems_is_the_deviation_over_seeds(monkeypatch):
    monkeypatch.setattr(subsets, "MAX_EXACT_WORK", 0)
    monkeypatch.setattr(subsets, "MAX_SUBSETS", 100)
    found = [subsets.majority([(12, ((5, 1.0), (4, 0.0), (2, 0.0)))] * 30, [3], seed) for seed in range(60)]
    deviation = np.std([votes.accuracy_BK.mean() for votes in found], ddof=1)
    assert math.sqrt(found[0].variance_BK.sum()) / 30 == pytest.approx(deviation, rel=0.3)


def test_counting_stays_small_in_memory():
    rng = random.Random(1)
    problems = [random_problem(rng, 64) for _ in range(300)]
    tracemalloc.start()
    subsets.majority(problems, [2, 4, 8, 16, 32])
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
