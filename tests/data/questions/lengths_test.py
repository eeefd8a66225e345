"""The import's report of lengths in tokens and of characters that T5's vocabulary lacks."""

import json

import pytest

from explainft.data.questions import lengths
from explainft.data.questions.examples import Question
from explainft.data.questions.forms import target_text
from explainft.data.questions.importing import Import, import_questions
from explainft.data.vocabulary import Vocabulary
from tests.helpers.vocabularies import write_t5_characters


@pytest.fixture(scope="module")
def t5_like(tmp_path_factory):
    return write_t5_characters(tmp_path_factory.mktemp("vocabulary") / "like.model")


def question(i, explanation="So <<1+1=2>>\nit is."):
    return Question(str(i), f"What is {'very ' * i}much?", ("a b", "c"), "a b", explanation, "{}")


def test_lengths_are_those_of_the_texts(t5_like):
    rows = [question(i) for i in range(5)]
    found = lengths.Lengths(Vocabulary(t5_like))
    for row in rows:
        found.add(row)
    encoder = Vocabulary(t5_like, replacement=True)
    n = sorted(len(encoder.encode(f"{row.question}\n(a) a b\n(b) c")) + 1 for row in rows)
    target = len(encoder.encode(target_text("explain_answer", "a b", rows[0].explanation))) + 1
    lines = found.lines("train")
    assert f"train: tokens of inputs, with EOS: min {n[0]}, median {n[2]}, 95% {n[3]}, max {n[4]}" in lines
    fixed = f"min {target}, median {target}, 95% {target}, max {target}"
    assert f"train: tokens of explain_answer targets, with EOS: {fixed}" in lines
    assert lines[0] == (
        "train, T5's vocabulary alone: 5 of 5 explanations hold tokens that this vocabulary cannot write: '<' 5; "
        "5 of 5 explanations hold characters that it changes: '\\n' 5"
    )
    assert sum("answer_explain" in line for line in lines) == 1


def test_without_explanations_there_is_one_form(t5_like):
    found = lengths.Lengths(Vocabulary(t5_like))
    found.add(question(1, ""))
    assert [line.split(",")[0] for line in found.lines("test")] == [
        "test: tokens of inputs",
        "test: tokens of answer targets",
    ]


def test_without_answers_there_are_inputs_alone(t5_like):
    found = lengths.Lengths(Vocabulary(t5_like))
    found.add(question(1)._replace(answer=""))
    assert [line for line in found.lines("test") if "targets" in line] == []


def test_of_many_rows_a_sample_and_the_longest_are_encoded(t5_like, monkeypatch):
    monkeypatch.setattr(lengths, "SAMPLE", 8)
    monkeypatch.setattr(lengths, "LONGEST", 2)
    found = lengths.Lengths(Vocabulary(t5_like))
    for i in range(100):
        found.add(question(50 if i == 33 else i % 5))
    assert len(found._sample) < 16
    longest = len(Vocabulary(t5_like, replacement=True).encode(f"{question(50).question}\n(a) a b\n(b) c")) + 1
    [line] = [line for line in found.lines("train") if "inputs" in line]
    assert f"max {longest} (of 13 rows and the 2 longest)" in line


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "set EXPLAINFT_T5_VOCAB to a copy of T5's"),
        ("gs://bucket/sentencepiece.model", "EXPLAINFT_T5_VOCAB=gs://bucket/sentencepiece.model is not read here"),
        ("/no/such/file", "EXPLAINFT_T5_VOCAB: no SentencePiece model at /no/such/file"),
    ],
)
def test_without_a_vocabulary_one_line_says_why(tmp_path, monkeypatch, value, line):
    if value is None:
        monkeypatch.delenv("EXPLAINFT_T5_VOCAB", raising=False)
    else:
        monkeypatch.setenv("EXPLAINFT_T5_VOCAB", value)
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "x?", "answer": "y"}) + "\n")
    _, report = import_questions(Import(name="quiz", problem="text", files={"train": path}), tmp_path / "tfds")
    assert report.lines()[-1].startswith(line)


def test_the_import_reports_lengths(tmp_path, monkeypatch, t5_like):
    monkeypatch.setenv("EXPLAINFT_T5_VOCAB", str(t5_like))
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "x?", "answer": "{y}"}) + "\n")
    _, report = import_questions(Import(name="quiz", problem="text", files={"train": path}), tmp_path / "tfds")
    assert "'{' 1, '}' 1" in report.lengths[0] and "tokens of answer targets" in report.lines()[-1]
