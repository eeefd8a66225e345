"""Properties of votes, for clusters of any sizes."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from explainft.voting import subsets
from explainft.voting.ballots import merge_answers
from explainft.voting.estimators import pass_at_k


@st.composite
def problems(draw):
    """Draws the number of samples of a problem, and its clusters, at most one of which is correct."""
    sizes = draw(st.lists(st.integers(1, 6), max_size=5))
    correct = draw(st.integers(0, len(sizes)))
    unparsed = draw(st.integers(0 if sizes else 1, 4))
    return sum(sizes) + unparsed, tuple((size, float(i == correct)) for i, size in enumerate(sizes))


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_fraction_of_subsets_with_a_correct_sample(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    found = [any(i < c for i in subset) for subset in itertools.combinations(range(n), k)]
    assert math.isclose(pass_at_k(n, c, k), sum(found) / len(found), abs_tol=1e-12)


@given(problems())
def test_majority_lies_between_all_and_none(problem):
    n, clusters = problem
    ks = list(range(1, n + 1))
    found = subsets.majority([problem], ks)
    assert ((found.accuracy_BK >= -1e-12) & (found.accuracy_BK <= 1 + 1e-12)).all()
    assert ((found.tied_BK >= 0) & (found.tied_BK <= 1)).all()
    # One sample is its own majority.
    assert math.isclose(found.accuracy_BK[0, 0], sum(size * of for size, of in clusters) / n, abs_tol=1e-12)
    correct = sum(size for size, of in clusters if of)
    assert all(found.accuracy_BK[0, k - 1] <= pass_at_k(n, correct, k) + 1e-12 for k in ks)


@given(problems(), st.randoms(use_true_random=False))
def test_votes_do_not_depend_on_the_order_of_clusters(problem, random):
    n, clusters = problem
    shuffled = random.sample(clusters, len(clusters))
    ks = list(range(1, n + 1))
    one, other = (subsets.majority([(n, tuple(of))], ks) for of in (clusters, shuffled))
    np.testing.assert_array_equal(one.accuracy_BK, other.accuracy_BK)
    np.testing.assert_array_equal(one.tied_BK, other.tied_BK)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 5), max_size=12), st.integers(1, 4))
def test_clusters_partition_the_answers(counts, kinds):
    """Two answers share a cluster exactly where they are equal."""

    def kind(answer):
        return sum(map(ord, answer)) % kinds

    merged = merge_answers(counts, lambda answer, other: kind(answer) == kind(other))
    assert sorted(itertools.chain(*merged)) == sorted(counts)
    assert [len({kind(answer) for answer in cluster}) for cluster in merged] == [1] * len(merged)
    assert len({kind(cluster[0]) for cluster in merged}) == len(merged)
    sizes = [sum(counts[answer] for answer in cluster) for cluster in merged]
    assert sizes == sorted(sizes, reverse=True)
