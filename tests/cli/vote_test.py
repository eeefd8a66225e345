"""The commands `vote` and `rerank`."""

import json
import math
import random

import pytest

from tests.helpers.command import outcome
from tests.helpers.sample_files import sampled_row, write_sample_rows

FIELDS = ("--problem", "math", "--samples_field", "output", "--answer_field", "label")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored_rows(number, start=0):
    rng = random.Random(start)
    return [
        {
            "id": f"q{start + i}",
            "question": f"what is {start + i} + 0?",
            "label": str(start + i),
            "output": [str(start + i) if rng.random() < 0.5 else str(rng.randint(900, 903)) for _ in range(6)],
            "reward": [[rng.gauss(0, 2)] for _ in range(6)],
        }
        for i in range(number)
    ]


def test_any_order_gives_the_same_bytes(capfd, tmp_path):
    rows = scored_rows(12)
    words = (*FIELDS, "--score_field", "reward", "--score_kind", "logit", "--seed", "3")
    first = outcome(capfd, "vote", write(tmp_path / "a.jsonl", rows), *words, "--output", tmp_path / "a")
    assert first[0] == 0
    for row in rows:
        order = random.Random(row["id"]).sample(range(6), 6)
        row["output"], row["reward"] = ([row[name][i] for i in order] for name in ("output", "reward"))
    again = outcome(capfd, "vote", write(tmp_path / "b.jsonl", rows[::-1]), *words, "--output", tmp_path / "b")
    assert again[:2] == first[:2]
    for name in ("vote.json", "vote.md", "vote.svg", "vote.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_sizes_above_the_samples_are_left_out_by_name(capfd, tmp_path):
    rows = [{"id": "a", "label": 1, "output": ["1", "2"]}, {"id": "b", "label": 1, "output": ["1", "2", "3", "1"]}]
    code, out, err = outcome(capfd, "vote", write(tmp_path / "s.jsonl", rows), *FIELDS, "--k", "1,2,4")
    assert code == 0 and "k=4 is left out: problem 'a' has 2 samples" in err
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][2:] == ["1", "2"]
    code, _, err = outcome(capfd, "vote", tmp_path / "s.jsonl", *FIELDS, "--k", "8")
    assert code == 2 and "--k=8 needs more samples than problem 'a' has: 2" in err


def test_k_of_reranking_is_chosen_on_validation(capfd, tmp_path):
    test, validation = write(tmp_path / "t.jsonl", scored_rows(20)), write(tmp_path / "v.jsonl", scored_rows(20, 100))
    words = (*FIELDS, "--score_field", "reward", "--score_kind", "logit")
    code, out, err = outcome(capfd, "rerank", test, *words, "--validation", validation, "--output", tmp_path / "r")
    assert (
        code == 0 and "chosen on 20 validation problems" in err and out.count("RR.Top-") == out.count("W.RR.Maj") == 1
    )
    assert "chosen on 20" in json.loads((tmp_path / "r" / "rerank.json").read_text())["k"]
    code, out, err = outcome(capfd, "rerank", test, *words)
    assert code == 0 and "no K is chosen" in err and "RR.Top-2" in out
    code, _, err = outcome(capfd, "rerank", test, *words, "--validation", test)
    assert code == 2 and "20 of 20 validation problems" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("vote",), "is not of a sample file; name the fields of other files"),
        (("vote", "--samples_field", "output"), "give --problem"),
        (("vote", "--answer_field", "label"), "give --samples_field"),
        (("vote", *FIELDS, "--score_field", "reward"), "must be a probability, 0 to 1; give --score_kind logit"),
        (("vote", *FIELDS, "--k", "0"), "'0' must be a positive integer"),
        (("vote", *FIELDS, "--seed", "-1"), "--seed=-1 must be an integer of at least 0"),
        (("rerank", *FIELDS, "--seed", "-1"), "--seed=-1 must be an integer of at least 0"),
        (("vote", "--score_kind", "logit"), "those of `explainft score` are probabilities"),
        (("rerank", *FIELDS), "has no score; run `explainft score`, or name it with --score_field"),
    ],
)
def test_what_cannot_be_used_is_one_line(capfd, tmp_path, words, error):
    command, *rest = words
    code, _, err = outcome(capfd, command, write(tmp_path / "s.jsonl", scored_rows(3)), *rest)
    assert code == 2 and error in err and err.count("\n") == 1


def scored_file(path, start, model="a", scores=True, **sampling):
    """A file as `explainft score` writes it, of four problems."""
    rows = [sampled_row(start + i) for i in range(4)]
    for row in rows:
        row["sampling"] |= {"temperature": 0.9, "task": row["id"], **sampling}
        row["scoring"] = {"model": model, "step": 3}
        row["samples"] = [{**s, "score": 0.5} if scores else s for s in row["samples"]]
    return write_sample_rows(path, rows)


def test_validation_scores_are_of_the_same_verifier(capfd, tmp_path):
    test = scored_file(tmp_path / "t.jsonl", 0)
    code, _, err = outcome(capfd, "rerank", test, "--validation", scored_file(tmp_path / "v.jsonl", 10))
    assert code == 0 and err.count("note") == 1
    code, _, err = outcome(capfd, "rerank", test, "--validation", scored_file(tmp_path / "v.jsonl", 10, "b"))
    assert code == 2 and f'another verifier than {test}: model="b", not "a"; score both' in err and err.count("\n") == 1
    without = scored_file(tmp_path / "v.jsonl", 10, scores=False)
    code, _, err = outcome(capfd, "rerank", test, "--validation", without)
    assert code == 2 and f"{without}: a sample of problem 'p10' has no score" in err


@pytest.mark.parametrize("command", ["vote", "rerank"])
def test_lines_of_different_settings_are_noted(capfd, tmp_path, command):
    files = [scored_file(tmp_path / "a.jsonl", 0), scored_file(tmp_path / "b.jsonl", 10, "b", temperature=0.5)]
    assert "differ" not in outcome(capfd, command, files[0])[2]
    (tmp_path / "c.jsonl").write_text("".join(file.read_text() for file in files))
    code, _, err = outcome(capfd, command, tmp_path / "c.jsonl")
    assert code == 0 and "note: lines differ in their sampling: temperature=0.5 and 0.9\n" in err
    assert 'note: lines differ in their scoring: model="a" and "b"\n' in err and err.count("differ") == 2


def test_truncated_and_empty_files_are_named(capfd, tmp_path):
    file = write(tmp_path / "s.jsonl", scored_rows(2))
    file.write_text(file.read_text()[:-40])
    code, _, err = outcome(capfd, "vote", file, *FIELDS)
    assert code == 2 and "line 2 is not JSON" in err
    file.write_text("")
    code, _, err = outcome(capfd, "vote", file, *FIELDS)
    assert code == 2 and "has no rows" in err


def test_rewards_of_another_program_give_its_numbers(capfd, tmp_path):
    """Logits in lists of one, labels of the samples, spellings of one value; the numbers counted by hand.

    4:30 is in the file as a broken gold answer, and the labels count.
    """
    rows = [
        {"gt": "900,000,000",
         "response": [r"\boxed{900,\!000,\!000}", r"\boxed{900000000}", r"\boxed{9}", r"\boxed{9.0}"],
         "pred_score": [[1.0], [2.0], [3.0], [-1.0]], "score": [True, True, False, False]},
        {"gt": "4:30p..", "response": [r"\boxed{4:30 \text{ p.m.}}"] * 4,
         "pred_score": [[0.5]] * 4, "score": [False] * 4},
        {"gt": r"\frac{1}{9}", "response": [r"\boxed{\dfrac19}", r"\boxed{2}", r"\boxed{3}", "no idea"],
         "pred_score": [[0.0], [4.0], [-9.0], [9.0]], "score": [True, False, False, False]},
        {"gt": "A", "response": ["A", "A", "A", "B"],
         "pred_score": [[-1.0], [-1.0], [-1.0], [0.5]], "score": [True, True, True, False]},
    ]  # fmt: skip
    rows = [{"idx": i, **row} for i, row in enumerate(rows)]
    words = ("--problem", "math", "--samples_field", "response", "--answer_field", "gt", "--id_field", "idx",
             "--score_field", "pred_score", "--score_kind", "logit", "--correct_field", "score")  # fmt: skip
    file = write(tmp_path / "s.jsonl", rows)
    assert outcome(capfd, "vote", file, *words, "--output", tmp_path / "o")[0] == 0
    assert outcome(capfd, "rerank", file, *words, "--top_k", "2", "--output", tmp_path / "o")[0] == 0
    passed, majority, by_score = json.loads((tmp_path / "o" / "vote.json").read_text())["curves"]
    methods = {m["method"]: m for m in json.loads((tmp_path / "o" / "rerank.json").read_text())["methods"]}

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    assert [e["k"] for e in passed["estimates"]] == [1, 2, 4]
    assert passed["estimates"][0]["value"] == pytest.approx((2 + 0 + 1 + 3) / 16, abs=1e-6)
    assert passed["estimates"][2]["value"] == 0.75
    # Tied at two of four; correct one of three; three of four.
    assert majority["estimates"][2]["value"] == pytest.approx((1 / 2 + 0 + 1 / 3 + 1) / 4, abs=1e-6)
    assert majority["estimates"][2]["tied"] == 2
    assert sigmoid(1) + sigmoid(2) > sigmoid(3) + sigmoid(-1) and 3 * sigmoid(-1) > sigmoid(0.5)
    assert by_score["estimates"][2]["value"] == methods["W.RR"]["accuracy"] == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert methods["RR.All"]["accuracy"] == 0  # the highest logit is of a wrong answer each time
    # Of three clusters of one, the two most frequent are any two: the correct one wins beside 3 alone.
    assert methods["RR.Top-2"]["accuracy"] == pytest.approx((0 + 0 + 1 / 3 + 0) / 4, abs=1e-6)
    assert methods["W.RR.Maj2"]["accuracy"] == pytest.approx((1 + 0 + 1 / 3 + 1) / 4, abs=1e-6)
    assert methods["pass@4"]["accuracy"] == 0.75
