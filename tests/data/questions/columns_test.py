"""Files whose rows have fields of other names, and rows that share their labels."""

import json

import pytest

from explainft.cli import main
from explainft.core.errors import UserError
from explainft.data.questions import records
from explainft.data.questions.columns import map_row
from explainft.data.questions.descriptor import descriptor_file, read_descriptor
from explainft.data.questions.layouts import Unreadable

LABELS = "entailment,neutral,contradiction"
PAIRS = [
    {"premise": "A man sleeps.", "hypothesis": "He is awake.", "gold": "contradiction", "idx": 0},
    {"premise": "A dog runs.", "hypothesis": "It is brown.", "gold": "-", "idx": 1},
    {"premise": "Two girls sing.", "hypothesis": "Girls sing.", "gold": " Entailment", "idx": 2},
    {"premise": "It rains.", "hypothesis": "It is cold.", "gold": "neutral", "idx": 3},
]
FIELDS = ["--fields", "question=premise,hypothesis", "answer=gold", "id=idx"]


def run(directory, *words):
    args = main.parse(["data", "import", *words, "--name", "pairs", "--tfds_data_dir", str(directory)])
    args.function(args)
    descriptor = read_descriptor(descriptor_file("pairs", directory))
    folder = descriptor_file("pairs", directory).parent
    return descriptor, [question for split in descriptor.rows for question in records.read(folder, split)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(PAIRS))  # one JSON list
    return path


def test_rows_without_one_of_the_labels_are_left_out_and_counted(tmp_path, file, capsys):
    descriptor, found = run(tmp_path, f"test={file}", "--problem", "choice", *FIELDS, "--labels", LABELS)
    assert descriptor.labels == LABELS.split(",") and descriptor.rows == {"test": 3}
    assert [(q.id, q.question, q.answer) for q in found] == [
        ("0", "A man sleeps.\nHe is awake.", "contradiction"),
        ("2", "Two girls sing.\nGirls sing.", "entailment"),
        ("3", "It rains.\nIt is cold.", "neutral"),
    ]
    assert {q.choices for q in found} == {tuple(LABELS.split(","))}
    assert "refused 1: answer is not a choice (pairs.json line 1)" in capsys.readouterr().out


def test_demonstrations_are_imported_beside_the_splits(tmp_path, file, capsys):
    other = tmp_path / "few_shot.json"
    other.write_text(json.dumps([{"premise": "Snow.", "hypothesis": "Ice.", "gold": "neutral"}] * 2 + PAIRS[1:3]))
    words = [f"test={file}", f"demonstrations={other}", "--problem", "choice", *FIELDS, "--labels", LABELS]
    descriptor, _ = run(tmp_path, *words)
    lines = (descriptor_file("pairs", tmp_path).parent / "demonstrations.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["Snow.\nIce."]
    assert descriptor.rows == {"test": 3} and set(descriptor.digests) == {"test", "demonstrations"}
    out = capsys.readouterr().out
    assert "demonstrations: 1 rows" in out and "refused 1: demonstration repeated (few_shot.json line 1)" in out
    assert "refused 1: demonstration of the split test, which is evaluated (few_shot.json line 1)" in out


def test_other_datasets_have_the_same_descriptor_as_before(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2 + 2?", "answer": 4}\n')
    run(tmp_path, f"train={path}", "--problem", "math")
    fields = json.loads(descriptor_file("pairs", tmp_path).read_text())
    assert set(fields) == {"name", "problem", "rows", "explained", "digests", "answered"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "yes,no, YES"], "--labels=yes,no,YES must be different texts; 'yes' is there twice"),
        (["--labels", "yes,"], "'' is there twice, or empty"),
        (["--problem", "text", "--labels", LABELS], "--problem=text has none, give --problem=choice"),
        (["--fields", "question=premises"], r"no row of .* can be used \(no field 'premises'\)"),
        (["--fields", "answer=gold"], "give --fields question=FEATURE"),
        (["--fields", "question=premise", "--format", "csqa"], "leave it out beside --fields"),
    ],
)
def test_wrong_flags_are_refused(tmp_path, file, words, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, f"test={file}", "--problem", "choice", *words)
    assert not (tmp_path / "explained_questions" / "pairs").exists()


def test_an_integer_is_the_place_of_a_label():
    columns = {"question": ["q"], "answer": ["a"]}
    assert map_row({"q": "x", "a": 1}, columns, ["no", "yes"])["answer"] == "yes"
    assert map_row({"q": "x", "a": -1}, columns, ["no", "yes"])["answer"] is None


def test_fields_may_be_nested_and_others_are_kept():
    row = map_row({"q": {"text": "x"}, "level": 3, "answer": "another"}, {"question": ["q/text"]})
    assert row == {"question": "x", "level": 3, "answer": None}
    with pytest.raises(Unreadable, match="not a JSON object"):
        map_row(["x"], {"question": ["q"]})
