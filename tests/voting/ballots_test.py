import json
import random
from collections import Counter

import pytest

from explainft.core.errors import UserError
from explainft.samples.foreign import Fields
from explainft.voting.ballots import merge_answers
from explainft.voting.vote import vote
from tests.voting.problems import ballots_of


@pytest.fixture
def file(tmp_path):
    return tmp_path / "samples.jsonl"


@pytest.mark.parametrize(
    ("samples", "winner"),
    [
        (["", "no idea", "???", "7"], "7"),
        (["A", "A", "A", "B"], "A"),
        (["1,000", "1000", "8", "7"], "1,000"),
        (["0.5", r"\frac12", r"\boxed{\dfrac{1}{2}}", "3", "3"], "0.5"),
    ],
)
def test_vote_merges_values_and_ignores_what_has_no_answer(file, samples, winner):
    [ballot] = ballots_of(file, [{"output": samples, "label": winner}])
    first = vote([ballot]).curves[1].at(len(samples))
    assert ballot.answers[0] == winner and first.value == 1 and first.tied == 0


def test_choices_are_merged_by_letter_and_text(file):
    row = {"output": ["(b)", "the answer is pear", "a", "?"], "label": "B", "choices": ["apple", "pear"]}
    [ballot] = ballots_of(file, [row], "choice")
    assert ballot.sizes_C.tolist() == [2, 1] and ballot.cluster_correct_C.tolist() == [1, 0] and ballot.unparsed == 1


def test_towers_of_powers_do_not_hang(file):
    tower = r"\boxed{2003^{2002^{2001}}}"
    [ballot] = ballots_of(file, [{"output": [tower, tower, r"\boxed{2003^{2002^{2000}}}"], "label": "1"}])
    assert ballot.sizes_C.tolist() == [2, 1]


def test_answers_are_merged_transitively_in_any_order():
    close = {frozenset("ab"), frozenset("bc")}
    for answers in ("abcd", "dcba", "acbd", "cadb"):
        groups = merge_answers(Counter(answers), lambda x, y: frozenset((x, y)) in close)
        assert groups == [["a", "b", "c"], ["d"]]


def test_labels_replace_the_comparison_with_the_gold_answer(file):
    row = {"output": ["1", "1", "2", "3"], "label": "1", "ok": [True, False, 1, 0]}
    [ballot] = ballots_of(file, [row], fields=Fields("output", answer="label", correct="ok"))
    assert ballot.cluster_correct_C.tolist() == [0.5, 1, 0] and ballot.sample_correct_N.sum() == 2


def test_order_of_samples_and_problems_changes_nothing(file):
    rng = random.Random(0)
    rows = [
        {
            "id": f"p{i}",
            "label": "3",
            "output": [
                {
                    "text": rng.choice(["1", "2", "3", "3.0", ""]),
                    "logprob_sum": -rng.random(),
                    "num_tokens": rng.randint(1, 9),
                }
                for _ in range(6)
            ],
            "reward": [rng.random() for _ in range(6)],
        }
        for i in range(8)
    ]
    fields = Fields("output", answer="label", score="reward")
    expected = vote(ballots_of(file, rows, fields=fields))
    assert len(expected.curves) == 5 and expected.tokens is not None
    for _ in range(5):
        shuffled = json.loads(json.dumps(rng.sample(rows, len(rows))))
        for row in shuffled:
            order = rng.sample(range(6), 6)
            row["output"], row["reward"] = ([row[name][i] for i in order] for name in ("output", "reward"))
        assert vote(ballots_of(file, shuffled, fields=fields)) == expected


@pytest.mark.parametrize(("kind", "score"), [("probability", 3.5), ("probability", -0.1)])
def test_scores_are_probabilities_unless_said_otherwise(file, kind, score):
    row = {"output": ["1", "2"], "label": "1", "reward": [0.5, score]}
    with pytest.raises(UserError, match="--score_kind logit"):
        ballots_of(file, [row], fields=Fields("output", answer="label", score="reward"), score_kind=kind)


def test_large_logits_keep_their_order_and_stay_finite(file):
    row = {"output": ["1", "2", "3"], "label": "1", "reward": [[900.0], [800.0], [-900.0]]}
    [ballot] = ballots_of(file, [row], fields=Fields("output", answer="label", score="reward"), score_kind="logit")
    assert sorted(ballot.scores_N) == [-900, 800, 900] and sorted(ballot.weights_N) == [0, 1, 1]


def test_labels_count_for_outputs_without_an_answer(file):
    row = {"output": ["no idea", "1"], "label": "1", "ok": [True, False]}
    [ballot] = ballots_of(file, [row], fields=Fields("output", answer="label", correct="ok"))
    assert ballot.unparsed == 1 and ballot.sample_correct_N.sum() == 1 and ballot.cluster_correct_C.tolist() == [0]


def test_log_probabilities_are_finite(file):
    row = {"output": [{"text": "1", "logprob_sum": float("nan")}], "label": "1"}
    with pytest.raises(UserError, match="logprob_sum=nan of problem .* must be finite"):
        ballots_of(file, [row])


def test_samples_that_are_all_correct_or_all_wrong_have_no_auroc(file):
    rows = [{"id": i, "output": ["1", "1"], "label": "1"} for i in range(3)]
    found = vote(ballots_of(file, rows))
    assert found.entropy == 0 and found.entropy_auroc is None and found.curves[0].at(2).value == 1
