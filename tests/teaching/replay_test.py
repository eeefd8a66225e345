"""Stored outputs, joined by position: the layout of csqa_palm, with small files of our own."""

import json

import pytest

from explainft.data.questions.importing import Import, import_questions
from explainft.teaching.questions import read_file
from explainft.teaching.replay import read_outputs
from tests.helpers.command import outcome
from tests.helpers.questions import HOMES, rows, write_jsonl

WRONG = (3, 4, 11)
UNCLEAR = (7,)


@pytest.fixture
def stored(tmp_path):
    """Twelve questions, and five outputs a chunk: some wrong, one unclear, all with an invented next question."""
    questions = rows(12)
    questions[5]["choices"][0] += " "  # as "ice cream " in the official file
    outputs = []
    for i, row in enumerate(questions):
        answer = row["answer"] if i not in WRONG else next(c for c in row["choices"] if c.strip() != row["answer"])
        letter = "abcd"[[choice.strip() for choice in row["choices"]].index(answer.strip())]
        named = "either (a) or (b)" if i in UNCLEAR else f"({letter}) {answer.strip()}"
        told = f"The answer must be a home. Here is {i}. So the answer is {named}."
        outputs.append(told + "\n\nQ: Where else?\nAnswer Choices:\n(a) here\nA: So the answer is (a) here.")
    directory = tmp_path / "llm"
    directory.mkdir()
    for chunk in range(3):
        (directory / f"train_CoT_{chunk}.json").write_text(json.dumps(outputs[5 * chunk : 5 * chunk + 5]))
    return write_jsonl(tmp_path / "train.json", questions), directory


def replay(capfd, stored, tmp_path, *flags, method="cote"):
    file, directory = stored
    output = tmp_path / "explained.jsonl"
    words = ["--input", file, "--exemplars", "csqa", "--replay", directory, "--output", output]
    return *outcome(capfd, "teach", "--method", method, *words, *flags), output


def test_what_agrees_with_gold_is_kept_and_imported(capfd, stored, tmp_path):
    code, out, err, output = replay(capfd, stored, tmp_path)
    assert (code, err) == (0, "")
    assert "cote: 12 asked; 8 accepted, 3 with another answer, 1 without an answer" in out
    assert "of 12 answers that name a choice by its letter, 11 have its text" in out and "1 name several" in out
    found = [json.loads(line) for line in output.read_text().splitlines()]
    kept = [i for i in range(12) if i not in (*WRONG, *UNCLEAR)]
    assert [row["explanation"] for row in found] == [f"The answer must be a home. Here is {i}." for i in kept]
    assert [row["level"] for row in found] == kept  # fields of the user's own
    assert found[-1]["request_id"] == "train_CoT_2.json 1" and found[0]["source"] == "cote"
    _, report = import_questions(Import("homes", "choice", {"train": output}), tmp_path)
    assert report.rows["train"] == 8 and not report.refused


def test_the_report_has_the_counts(capfd, stored, tmp_path):
    report = tmp_path / "account.json"
    code, _, _, _ = replay(capfd, stored, tmp_path, "--report", report)
    account = json.loads(report.read_text())
    assert code == 0 and account["outcomes"]["cote"]["accepted"] == 8
    assert account["outcomes"]["cote"]["with another answer"] == 3 and account["outcomes"]["cote"]["cut"] == 0
    assert account["letter and text"] == {"agree": 11, "several": 1} and account["faults"] == {}
    code, _, err, _ = replay(capfd, stored, tmp_path, "--report", tmp_path)
    assert code == 2 and f"cannot write {tmp_path}" in err


def test_crop_would_ask_for_exactly_the_others(capfd, stored, tmp_path):
    code, out, _, _ = replay(capfd, stored, tmp_path, "--dry_run", "--model", "gpt-4o-mini", method="crop")
    assert code == 0 and "rp: 4 explanations to ask for, 4 requests to send" in out and "price: at most $0." in out


def test_a_missing_chunk_is_refused(capfd, stored, tmp_path):
    (stored[1] / "train_CoT_1.json").unlink()
    code, _, err, output = replay(capfd, stored, tmp_path)
    assert code == 2 and "lacks chunk 1 of 3" in err and not output.exists()


@pytest.mark.parametrize(
    ("name", "outputs", "words"),
    [
        ("train_CoT_2.json", ["one"], "has 11 outputs for 12 questions, which are joined by position"),
        ("train_CoT_1.json", ["a"] * 4, "has 4 outputs and chunk 0 has 5; only the last chunk may have fewer"),
        ("train_CoT_2.json", ["a"] * 7, "has 7 outputs and chunk 0 has 5"),
        ("train_CoT_2.json", ["a", 3], "output 2 must be a text"),
        ("test_CoT_0.json", ["a"], "has outputs of test_CoT_, train_CoT_; name one"),
        ("train_CoT_02.json", ["a"], "are the same chunk; remove one"),
    ],
)
def test_outputs_that_do_not_match_are_refused(capfd, stored, tmp_path, name, outputs, words):
    (stored[1] / name).write_text(json.dumps(outputs))
    code, _, err, output = replay(capfd, stored, tmp_path)
    assert code == 2 and words in err and len(err.splitlines()) == 1 and not output.exists()


def test_a_series_is_named_by_its_prefix(stored):
    (stored[1] / "test_CoT_0.json").write_text('["a"]')
    assert len(read_outputs(stored[1] / "train_CoT_", 12)) == 12


def test_a_row_that_is_left_out_keeps_its_place(capfd, stored, tmp_path):
    file, _ = stored
    lines = file.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), "answer": "none of them"})
    file.write_text("\n".join(lines))
    code, out, err, output = replay(capfd, stored, tmp_path, "--num_examples", 4)
    assert code == 0 and "1 rows are left out: 1 answer is not a choice" in err
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["explanation"][-2:-1] for row in found] == ["0", "2"] and "4 asked" in out


def test_choices_of_the_official_test_layout_need_answers(tmp_path):
    """CommonsenseQA's own layout: a stem, labelled choices, and an answer key that the test file lacks."""
    choices = [{"label": "ABCDE"[i], "text": home} for i, home in enumerate(sorted(HOMES.values())[:5])]
    question = {"stem": "Where do fish live?", "question_concept": "fish", "choices": choices}
    row = {"answerKey": "E", "id": "1", "question": question}
    file = write_jsonl(tmp_path / "dev.jsonl", [row, {"id": "2", "question": question}])
    found = read_file(file, "csqa", "choice")
    assert [one.answer for one in found.questions] == ["pond"] and found.left_out == {"missing or null answer": 1}
