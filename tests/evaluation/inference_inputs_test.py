import json
from pathlib import Path

import pytest

from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation.infer import Prediction
from explainft.evaluation.inference_inputs import QuestionReader, input_reader
from explainft.generation.generator import Output

READER = QuestionReader("choice", "explain_answer", trained_length=20)
ROW = {"question": "Where?", "choices": ["sea", "air"], "answer": "sea", "note": {"kept": [1]}}


def test_a_text_and_a_row():
    text, row = READER.parse(["Where?", ROW])
    assert text.text == "Where?" and row.text == "Where?\n(a) sea\n(b) air"
    assert Prediction(text, Output("The answer is yes")).correct is None


def test_the_user_s_row_is_kept():
    [parsed] = READER.parse([ROW])
    found = Prediction(parsed, Output("Fish swim.\nThe answer is (b)", cut=True))
    assert found.json() == {
        **ROW,
        "prediction": {
            "answer": "air",
            "text": "Fish swim.\nThe answer is (b)",
            "correct": False,
            "cut": True,
        },
    }
    assert found.explanation == "Fish swim."
    assert found.text().endswith("answer: air (wrong, it is sea)")


def test_steps_of_an_answer_are_checked():
    [parsed] = QuestionReader("math", "explain_answer", 20).parse([{"question": "48 halves?", "answer": "24"}])
    found = Prediction(parsed, Output("<<48/2=23>>, <<1+1=2>>, <<2*x=4>>\nThe answer is 24"))
    assert found.json()["prediction"]["check"] == {
        "steps_total": 3, "steps_correct": 1, "first_wrong_step_number": 1, "steps_unreadable": 1,
    }  # fmt: skip
    assert found.text().endswith("(correct; 1 of 3 steps correct, 1 unreadable, first wrong step 1)")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl", json.dumps(ROW) + "\n\n" + json.dumps({**ROW, "question": "Line\u2028two?"})),
        ("q.json", json.dumps([ROW, {**ROW, "question": "Line\u2028two?"}])),
        ("q.csv", "\ufeffquestion,choices,answer,note\r\nWhere?,sea|air,sea,x\r\n\"Line\u2028two?\",sea|air,sea,\r\n"),
    ],
)  # fmt: skip
def test_files_of_rows(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    found = READER.read(tmp_path / name)
    assert [input.text for input in found] == ["Where?\n(a) sea\n(b) air", "Line\u2028two?\n(a) sea\n(b) air"]
    assert all(input.target.example["answer"] == "sea" for input in found)
    assert found[0].row["note"]


def test_cells_of_a_table(tmp_path):
    table = 'id,question,choices,note\n1,Where?,"[""the sea | shore"", ""air""]",\n2,Why?,,[x\n3,Who?,[a|b,\n'
    (tmp_path / "q.csv").write_text(table)
    found = READER.read(tmp_path / "q.csv")
    assert [input.text for input in found] == ["Where?\n(a) the sea | shore\n(b) air", "Why?", "Who?\n(a) [a\n(b) b"]
    assert found[0].row == {"id": "1", "question": "Where?", "choices": ["the sea | shore", "air"], "note": ""}
    assert found[1].row == {"id": "2", "question": "Why?", "note": "[x"}


def test_a_text_file_has_a_question_a_line(tmp_path):
    (tmp_path / "q.txt").write_text("Who?\r\n\r\nWhy? \n", encoding="utf-8-sig", newline="")
    assert [input.text for input in READER.read(tmp_path / "q.txt")] == ["Who?", "Why?"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", '{"question": "a"}\n{"questions": "b"}\n', "q.jsonl line 2: empty question"),
        ("q.jsonl", '{"question": "a", "choices": "b"}\n', "q.jsonl line 1: choices are not a list"),
        ("q.jsonl", "", "q.jsonl has no rows"),
        ("q.jsonl", '{"question": "a"}\nnull\n', "q.jsonl line 2: not a JSON object"),
        ("q.json", '["a", ["b", "c"]]', "q.json line 1: not a JSON object"),
        ("q.csv", "text\nWhere?\n", "q.csv has no column 'question'"),
        ("q.csv", 'question\n"Where?" x\n', "q.csv after line 1 is not CSV"),
        ("q.csv", "question\n" + "x" * 200_000 + "\n", "q.csv after line 1 is not CSV"),
        ("q.csv", b"question\n\xff\n", "cannot read .*q.csv"),
        ("q.txt", b"\xff\xfe", "cannot read .*q.txt"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, name, content, message):
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        READER.read(tmp_path / name)


def test_official_layouts(tmp_path):
    row = {"id": "1", "question": {"stem": "Where?", "choices": [{"label": "A", "text": "sea"}]}, "answerKey": "A"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    [parsed] = QuestionReader("choice", "answer", 20, "csqa").read(tmp_path / "q.jsonl")
    assert parsed.text == "Where?\n(a) sea" and parsed.target.example["answer"] == "sea" and parsed.row == row


def test_a_run_of_a_user_s_own_task_is_refused():
    meta = {"task": "own", "explanation": None, "lengths": {"targets": 9}}
    with pytest.raises(UserError, match="RUN was trained on own, which must be a task of ListOps .* or of imported"):
        input_reader(meta, "RUN")


def test_a_run_of_few_shot_prompts_is_asked_in_the_words_of_its_template():
    lengths = {"targets": 2}
    meta = {"task": "explained_homes_answer_2_shot_reworded", "lengths": lengths}
    meta["questions"] = {"problem": "choice", "form": "answer"}
    [asked] = input_reader(meta, "RUN").parse(["Where?"])
    assert asked.text == "Read what is given and complete the last solution.\n\nGiven: Where?\nSolution:"
    meta = {"task": "explained_tiny_short_2_shot_compact", "lengths": lengths}
    reader = input_reader({**meta, "explanation": {"style": "short", "modulus": 10}}, "RUN")
    [asked] = reader.parse(["[MAX 2 9 ]"])
    assert asked.text == "Question: [MAX 2 9 ]\nAnswer:" and asked.row == {"expression": "[MAX 2 9 ]"}
    assert reader.max_length(asked, Vocabulary(Path(COMPACT))) > lengths["targets"]
