"""Re-ranking against every way to break ties, one by one."""

import itertools
import random

import pytest

from explainft.samples.files import read_samples
from explainft.voting.ballots import make_ballots
from explainft.voting.rerank import choose, choose_k, rerank
from tests.helpers.sample_files import sampled_row, write_sample_rows

ONE = {"RR.Top-K": [1], "W.RR.MajK": [1]}


def brute_force(sizes, values, correct, k):
    """Mean correctness of the chosen cluster over all orders of the clusters, which break every tie."""
    total, number = 0.0, 0
    for order in itertools.permutations(range(len(sizes))):
        largest = sorted(order, key=lambda c: -sizes[c])[:k]  # a stable sort: `order` breaks ties
        # Another order for the ties of values, so that they do not depend on those of sizes.
        for tied in itertools.permutations([c for c in largest if values[c] == max(values[c] for c in largest)]):
            total += correct[tied[0]] / len(list(itertools.permutations(tied)))
        number += 1
    return total / number


@pytest.mark.parametrize("seed", range(30))
def test_choice_equals_all_tie_breaks(seed):
    rng = random.Random(seed)
    clusters = rng.randint(1, 5)
    sizes = [rng.randint(1, 3) for _ in range(clusters)]
    values = [rng.choice([0.1, 0.5, 0.5, 0.9]) for _ in range(clusters)]
    correct = [float(rng.random() < 0.4) for _ in range(clusters)]
    for k in range(1, clusters + 2):
        expected = brute_force(sizes, values, correct, k)
        assert choose(sizes, values, correct, k).correct == pytest.approx(expected)
        shuffled = rng.sample(range(clusters), clusters)
        again = choose(*([row[c] for c in shuffled] for row in (sizes, values, correct)), k)
        assert again.correct == pytest.approx(expected)


def test_ties_are_counted_where_they_decide():
    assert not choose([2, 1, 1], [0.9, 0.2, 0.3], [1, 0, 0], None).tied
    assert choose([2, 1, 1], [0.5, 0.9, 0.3], [1, 0, 0], 2).tied  # which of the two is second
    assert not choose([2, 1, 1], [0.9, 0.5, 0.3], [1, 0, 0], 2).tied  # neither has the highest score
    assert choose([1, 1], [0.5, 0.5], [1, 0], None).tied


def test_calls_are_the_samples_of_the_largest_clusters():
    assert choose([5, 2, 2, 1], [1, 1, 1, 1], [0, 0, 0, 0], 2).calls == 7
    assert choose([], [], [], 2).correct == 0


def test_valid_samples_are_a_ceiling_of_their_own(tmp_path):
    """Of three problems, one has a valid sample, one a correct answer after an incorrect step, one neither."""
    rows = [sampled_row(i, correct) for i, correct in enumerate((1, 1, 0))]
    for sample in rows[1]["samples"]:
        sample["check"]["steps_correct"] -= 1
    for row in rows:
        row["samples"] = [{**sample, "score": 0.5 + 0.4 * sample["correct"]} for sample in row["samples"]]
    ballots = make_ballots(read_samples(write_sample_rows(tmp_path / "s.jsonl", rows)))
    found = {r.method: r.accuracy for r in rerank(ballots, ONE).methods if r.ceiling}
    assert found == {"pass@2..3": pytest.approx(2 / 3), "valid@2..3": pytest.approx(1 / 3)}


def test_differences_are_paired(tmp_path):
    """A verifier that corrects one vote in ten and spoils none is better in every resample, by at least zero."""
    rows = [sampled_row(i, correct=1 if i % 10 == 0 else 3 * (i % 2), incorrect=2) for i in range(60)]
    for row in rows:
        row["samples"] = [{**sample, "score": 0.1 + 0.8 * sample["correct"]} for sample in row["samples"]]
    ballots = make_ballots(read_samples(write_sample_rows(tmp_path / "s.jsonl", rows)))
    found = rerank(ballots, ONE)
    accuracy = {ranking.method: ranking for ranking in found.methods}
    gain = found.over("RR.All", "majority")
    assert gain is not None and gain.value == pytest.approx(accuracy["RR.All"].accuracy - accuracy["majority"].accuracy)
    assert gain.value == pytest.approx(0.1) and 0 < gain.low < gain.value < gain.high
    assert accuracy["majority"].high > accuracy["RR.All"].low  # the intervals of both alone overlap
    assert len(found.differences) == 6 * 5 / 2 and found.over("pass@3..5", "majority") is None


def test_k_above_all_clusters_is_noted(tmp_path):
    ballots = make_ballots(read_samples(write_sample_rows(tmp_path / "s.jsonl", [sampled_row(0), sampled_row(1)])))
    assert choose_k(ballots, None, 2)[1] == "K=2 is --top_k"
    assert "K=3 is --top_k, above the 2 clusters of any problem: RR.Top-3 is RR.All" in choose_k(ballots, None, 3)[1]
