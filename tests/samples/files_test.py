import json

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem
from explainft.samples.files import make_sample, read_samples, write_rows

EXAMPLE = {"question": "[MAX 2 [MIN 4 7 ] ]", "answer": 4, "style": "medium", "modulus": 10}
STEPS = "Min, smallest number of [4, 7] is 4\nMax, largest number of [2, 4] is 4\nFinal answer: 4"
TARGET = Target(get_problem("listops"), EXAMPLE)


def line(number: str = "a", **changed) -> dict:
    samples = [make_sample(TARGET, text, logprob=-2.0, tokens=20, cut=False) for text in (STEPS, "Final answer: 7")]
    sampling = {"problem": "listops", "form": None}
    return {"id": number, **EXAMPLE, "gold": STEPS, "sampling": sampling, "samples": samples, **changed}


def write(path, *rows):
    path.write_text("".join(write_rows(rows)), encoding="utf-8")
    return path


def test_samples_are_read_as_written(tmp_path):
    [problem] = read_samples(write(tmp_path / "s.jsonl", line()))
    assert problem.id == "a" and problem.gold == STEPS and problem.target == TARGET_WITH_ID
    correct, wrong = problem.samples
    assert (correct.answer, correct.correct, correct.valid) == ("4", True, True)
    assert (wrong.answer, wrong.correct, wrong.valid) == ("7", False, False)
    assert correct.logprob == -2.0 and correct.tokens == 20 and not correct.cut and correct.score is None


TARGET_WITH_ID = Target(TARGET.problem, {"id": "a", **EXAMPLE})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([line(), line()], "line 2: id 'a' is in line 1 too"),
        ([line(samples=[])], "line 1 has no samples"),
        ([{"question": "a"}], "line 1 is not of a sample file"),
        ([line(samples=[{"text": "x", "answer": None, "score": float("nan")}])], "must be a finite number"),
        ([line(sampling={"problem": "chess", "form": None})], "names no known problem"),
        ([line(sampling={"problem": ["x"], "form": None})], "names no known problem"),
        ([line(sampling={"problem": "listops", "form": ["x"]})], "names no known problem"),
        ([line(choices=5)], "line 1: choices=5 must be a list of texts; sample again"),
        ([line(question=["x"])], "line 1: question=.* must be a text"),
        ([line(gold=4)], "line 1: gold=4 must be a text"),
    ],
)
def test_unusable_files_name_the_line(tmp_path, rows, words):
    with pytest.raises(UserError, match=words):
        read_samples(write(tmp_path / "s.jsonl", *rows))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("answer", 4, "answer=4 must be a text or null; sample again"),
        ("correct", "no", "correct='no' must be true, false or null"),
        ("correct", 1, "correct=1 must be"),
        ("check", {}, "check={} must have steps_total"),
        ("check", [1], r"check=\[1\] must have"),
        ("check", {"steps_total": "2", "steps_correct": 2}, ".*must have steps_total"),
        ("logprob_sum", "x", "logprob_sum='x' must be a finite number"),
        ("logprob_sum", float("-inf"), "logprob_sum=-inf must be a finite number"),
        ("num_tokens", "x", "num_tokens='x' must be an integer"),
        ("score", True, "score=True must be a finite number; score again"),
    ],
)
def test_a_sample_with_a_field_of_another_type_is_named(tmp_path, field, value, words):
    row = line()
    row["samples"][1][field] = value
    with pytest.raises(UserError, match=f"line 1, sample 2: {words}"):
        read_samples(write(tmp_path / "s.jsonl", row))


def test_truncated_line_is_named(tmp_path):
    file = tmp_path / "s.jsonl"
    file.write_text(json.dumps(line()) + "\n" + json.dumps(line("b"))[:50], encoding="utf-8")
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_samples(file)
