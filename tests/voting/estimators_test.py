import itertools
import math

import numpy as np
import pytest

from explainft.voting import weighted
from explainft.voting.estimators import entropy, pass_at_k
from explainft.voting.intervals import bootstrap
from tests.voting.problems import ballots_of


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_equals_all_subsets(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_one_correct_of_four_is_certain_at_four():
    assert pass_at_k(4, 1, 4) == 1 and pass_at_k(64, 0, 64) == 0


def test_more_samples_than_there_are_is_refused():
    with pytest.raises(ValueError, match="pass@8 needs at least 8 samples"):
        pass_at_k(4, 0, 8)


def test_entropy_is_of_the_samples_with_an_answer(tmp_path):
    rows = [{"id": i, "output": o, "label": 1} for i, o in enumerate([["1", "2", "?"], ["1", "1", ""], ["", "?"]])]
    two, one, none = map(entropy, ballots_of(tmp_path / "s.jsonl", rows))
    assert (two, one, none) == (pytest.approx(math.log(2)), 0, None)


def weighted_ballot(tmp_path):
    texts, logprobs, tokens = ["1", "2", "2", "3", "?", "1"], [-1, -2, -2.5, -0.5, -0.1, -4], [2, 4, 4, 1, 1, 9]
    output = [{"text": t, "logprob_sum": p, "num_tokens": n} for t, p, n in zip(texts, logprobs, tokens, strict=True)]
    return ballots_of(tmp_path / "s.jsonl", [{"output": output, "label": "1"}])[0]


@pytest.mark.parametrize("per_token", [False, True])
def test_weighted_votes_agree_with_all_subsets_within_their_error(tmp_path, per_token):
    ballot = weighted_ballot(tmp_path)
    weights = weighted.probability_weights(ballot, per_token)
    assert weights is not None
    ks = [1, 2, 3, 4, 5, 6]
    [found] = weighted.sampled_votes(ballot, [weights], ks, 4000, np.random.default_rng(0))
    for k, (value, variance, _) in zip(ks, found, strict=True):
        correct = []
        for subset in itertools.combinations(range(6), k):
            sums = {c: sum(weights[i] for i in subset if ballot.clusters_N[i] == c) for c in range(3)}
            present = {c: s for c, s in sums.items() if any(ballot.clusters_N[i] == c for i in subset)}
            first = [c for c, s in present.items() if math.isclose(s, max(present.values()))]
            correct.append(sum(ballot.cluster_correct_C[c] for c in first) / max(1, len(first)))
        assert abs(value - np.mean(correct)) <= 4 * math.sqrt(variance) + 1e-12
        assert (variance == 0) == (k in (1, 6))


def test_equal_weights_are_ties(tmp_path):
    row = {"output": ["1", "2", "1", "2"], "label": "1"}
    [ballot] = ballots_of(tmp_path / "s.jsonl", [row])
    assert weighted.vote(ballot, np.array([0.1, 0.3, 0.1 + 0.2, 0.1])) == (0.5, True)
    assert weighted.vote(ballot, np.zeros(4)) == (0.5, True)


def test_clusters_that_no_sample_of_a_subset_votes_for_do_not_win(tmp_path):
    """With weights of zero, each pair of samples votes for the two clusters that are in it."""
    [ballot] = ballots_of(tmp_path / "s.jsonl", [{"output": ["1", "2", "3", "4"], "label": "1"}])
    [[found]] = weighted.sampled_votes(ballot, [np.zeros(4)], [2], 2000, np.random.default_rng(0))
    assert found[0] == pytest.approx(1 / 4, abs=4 * math.sqrt(found[1])) and found[2] == 1
    [ballot] = ballots_of(tmp_path / "s.jsonl", [{"output": ["1", "1", "1", "2"], "label": "1"}])
    [[found]] = weighted.sampled_votes(ballot, [np.zeros(4)], [2], 2000, np.random.default_rng(0))
    assert found[0] == pytest.approx(3 / 4, abs=4 * math.sqrt(found[1])) and found[2] == pytest.approx(1 / 2, abs=0.05)


def test_bootstrap_covers_what_a_normal_interval_does():
    values = np.random.default_rng(1).random((400, 1))
    [low], [high] = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=half / 5)
    assert high == pytest.approx(values.mean() + half, abs=half / 5)
    assert bootstrap(np.ones((7, 1))) == (1, 1)
