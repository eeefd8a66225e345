"""`explainft data import`: layouts, refusals, joins, and bytes."""

import gzip
import json

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data.questions.examples import question_of
from explainft.data.questions.files import read_rows
from explainft.data.questions.importing import Import, import_questions, split_files
from explainft.data.questions.layouts import Unreadable
from explainft.problems.registry import get_problem

ROWS = [
    {"id": "a", "question": "Where is a fish?", "choices": ["pond", "tree"], "answer": "pond", "explanation": "Swims."},
    {"id": "b", "question": "What grows?", "choices": ["stone", "tree"], "answer": "(b)", "source": {"page": 3}},
]  # fmt: skip


def write(path, rows, *, end="\n"):
    path.write_text("".join(json.dumps(row) + end for row in rows), encoding="utf-8")
    return path


def imported(tmp_path, path, problem="choice", layout="jsonl", **settings):
    """The rows of the dataset as TFDS reads them, and the report."""
    import tensorflow_datasets as tfds

    files = {"train": path} if not isinstance(path, dict) else path
    directory, report = import_questions(
        Import(name="quiz", problem=problem, files=files, layout=layout, **settings), tmp_path / "tfds"
    )
    builder = tfds.builder_from_directory(directory)
    read = tfds.ReadConfig(interleave_cycle_length=1)
    rows = {
        split: [
            {name: [c.decode() for c in v] if name == "choices" else v.decode() for name, v in row.items()}
            for row in tfds.as_numpy(builder.as_dataset(split=split, read_config=read))
        ]
        for split in files
    }
    return rows, report


def test_rows_come_out_as_they_went_in(tmp_path):
    rows, report = imported(tmp_path, write(tmp_path / "q.jsonl", ROWS))
    [first, second] = rows["train"]
    assert first == {**ROWS[0], "fields": "{}"}
    assert second["answer"] == "tree" and json.loads(second["fields"]) == {"source": {"page": 3}}
    assert report.rows == {"train": 2} and not report.refused


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.removesuffix("\n").encode(),
        lambda text: (text + "\n\n  \n").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: ("[" + text.strip().replace("\n", ",\n") + "]").encode(),
        lambda text: b"\n" + json.dumps([json.loads(line) for line in text.splitlines()], indent=1).encode(),
    ],
    ids=["plain", "bom", "crlf", "no newline at the end", "blank lines", "gzip", "array", "indented array"],
)
def test_files_in_every_dress(tmp_path, encode):
    path = tmp_path / "q.jsonl"
    path.write_bytes(encode("".join(json.dumps(row) + "\n" for row in ROWS)))
    assert [row for _, row in read_rows(path)] == ROWS


def test_a_row_ends_at_newline_alone(tmp_path):
    row = {"question": "a\u2028b\u0085c\x0cd?", "answer": "x"}
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_rows(path)) == [(1, row)]


def test_an_array_is_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("explainft.data.questions.files._CHUNK", 7)
    items = [1, 23456789, "naïve ½ – \U0001f600", {"a": [1, 2, {}]}, [], None, True, -1.5e3]
    path = tmp_path / "a.json"
    path.write_text(
        "[" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n]\n", encoding="utf-8"
    )
    assert [row for _, row in read_rows(path)] == items
    assert [line for line, _ in read_rows(path)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"\n \n", "has no rows"),
        (b'{"question": "a"}\n{"quest', "line 2 is not JSON"),
        (b'[{"question": "a"}, {"quest', "the array is cut off or malformed"),
        (b'[{"question": "a"}', "a JSON array without"),
        (b'{"question": "\xff"}\n', "line 1 is not UTF-8"),
        (bytes(range(128, 256)), "line 1 is not UTF-8"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' * 50_000, "is not JSON"),
        (b'{"question": "' + b"x" * 11 * 2**20 + b'"}\n', "is longer than 10,485,760 bytes"),
        (gzip.compress(b'{"question": "a"}\n', mtime=0)[:-9], "cannot read"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_rows(path))
    assert "\n" not in error.value.line and str(path) in error.value.line


def test_a_directory_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match="cannot read"):
            list(read_rows(path))


def test_unusable_rows_are_left_out_and_named(tmp_path):
    bad = [
        {"question": "x?", "choices": ["p", "q r"], "answer": None},
        {"question": "x?", "choices": ["p", "q r"]},
        {"question": " ", "choices": ["p", "q r"], "answer": "p"},
        {"question": "x?", "choices": ["p", "q r"], "answer": "z z"},
        {"question": "x?", "choices": ["p", "q r"], "answer": ["p", "q r"]},
        {"question": "x?", "choices": "p", "answer": "p"},
        {"id": "a", "question": "Other?", "choices": ["p", "q r"], "answer": "p"},
        ROWS[0],
        [1],
    ]
    rows, report = imported(tmp_path, write(tmp_path / "q.jsonl", [*ROWS, *bad]))
    assert len(rows["train"]) == 2
    counts = {reason: n for (kind, reason), n in report.counts.items() if kind == "refused"}
    assert counts == {
        "missing or null answer": 2,
        "empty question": 1,
        "answer is not a choice": 1,
        "answer names two choices": 1,
        "choices are not a list": 1,
        "same id with other content": 1,
        "row repeated": 1,
        "not a JSON object": 1,
    }
    assert report.refused["empty question"] == ["q.jsonl line 5"]


def test_strict_ends_at_the_first_unusable_row(tmp_path):
    path = write(tmp_path / "q.jsonl", [*ROWS, {"question": "x?"}])
    with pytest.raises(UserError, match="line 3: missing or null answer"):
        imported(tmp_path, path, strict=True)
    assert not list((tmp_path / "tfds/explained_questions").iterdir())  # nothing half-written


@pytest.mark.parametrize(
    ("problem", "given", "answer"),
    [("math", 3, "3"), ("math", 2.5, "2.5"), ("text", True, "true"), ("text", ["a", 1], "a, 1"), ("math", " 7 ", "7")],
)
def test_answers_of_every_type(tmp_path, problem, given, answer):
    rows, _ = imported(tmp_path, write(tmp_path / "q.jsonl", [{"question": "x?", "answer": given}]), problem)
    assert rows["train"][0]["answer"] == answer


LABELLED = [{"label": "A", "text": "p"}, {"label": "B", "text": "q r"}]
LAYOUTS = {
    "csqa": (
        "choice",
        {"id": "1", "answerKey": "B", "question": {"stem": "s?", "choices": LABELLED}},
        {"id": "1", "question": "s?", "choices": ["p", "q r"], "answer": "q r"},
    ),
    "obqa": (
        "choice",
        {"id": "1", "fact1": "f", "answerKey": "A", "question": {"stem": "half a", "choices": LABELLED}},
        {"question": "half a", "answer": "p", "explanation": "f"},
    ),
    "strategyqa": (
        "choice",
        {"qid": "9", "question": "Is it?", "answer": True, "facts": ["One.", "Two."]},
        {"id": "9", "answer": "yes", "explanation": "One. Two.", "choices": []},
    ),
    "gsm8k": (
        "math",
        {"question": "How many?", "answer": "It is 48/2=<<48/2=24>>24.\n#### 1,024"},
        {"answer": "1,024", "explanation": "It is 48/2=<<48/2=24>>24."},
    ),
    "math": (
        "math",
        {"problem": "Find x.", "solution": r"So $\boxed{\frac{1}{2}}$.", "subject": "Algebra", "unique_id": "u"},
        {"id": "u", "question": "Find x.", "answer": r"\frac{1}{2}", "fields": '{"subject": "Algebra"}'},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_layouts(tmp_path, layout):
    problem, row, wanted = LAYOUTS[layout]
    rows, _ = imported(tmp_path, write(tmp_path / "q.jsonl", [row]), problem, layout)
    assert {name: rows["train"][0][name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "choices", [["pond", "tree"], {"label": ["1", "2"], "text": ["pond", "tree"]}, [{"text": "pond"}, {"text": "tree"}]]
)
@pytest.mark.parametrize("key", ["2", "B"])
def test_choices_in_other_dress(tmp_path, choices, key):
    row = {"question": {"stem": "What grows?", "choices": choices}, "answerKey": key}
    if isinstance(choices, dict) or key == "B":
        read = question_of(get_problem("choice"), "csqa", row, "1", answered=True)
        assert read.choices == ("pond", "tree") and read.answer == "tree"
    else:
        with pytest.raises(Unreadable, match="answer is not a choice"):
            question_of(get_problem("choice"), "csqa", row, "1", answered=True)


def test_rows_without_an_answer_are_for_inference(tmp_path):
    problem, row, _ = LAYOUTS["csqa"]
    del row["answerKey"]
    path = write(tmp_path / "q.jsonl", [row])
    with pytest.raises(UserError, match="no row of .* can be used \\(missing or null answer\\)"):
        imported(tmp_path, path, problem, "csqa")
    rows, report = imported(tmp_path, path, problem, "csqa", answered=False)
    assert rows["train"][0]["answer"] == "" and not any("answers" in line for line in report.lines())


def test_explanations_join_by_position_and_lose_what_was_invented(tmp_path):
    lists = [tmp_path / "0.json", tmp_path / "1.json"]
    for path, text in zip(lists, ["So the answer is (a).\n\nQ: Next?", "It grows."], strict=True):
        path.write_text(json.dumps([text]))
    rows, report = imported(tmp_path, write(tmp_path / "q.jsonl", ROWS), explanations={"train": lists}, stop="\n\nQ:")
    assert [row["explanation"] for row in rows["train"]] == ["So the answer is (a).", "It grows."]


@pytest.mark.parametrize("n", [1, 3])
def test_a_shifted_join_is_refused(tmp_path, n):
    path = tmp_path / "e.json"
    path.write_text(json.dumps(["text"] * n))
    with pytest.raises(UserError, match=f"train has 2 rows and {n} explanations"):
        imported(tmp_path, write(tmp_path / "q.jsonl", ROWS), explanations={"train": [path]})
    assert not list((tmp_path / "tfds").rglob("*.*"))


def test_a_number_that_is_not_finite_is_missing(tmp_path):
    rows = [{"question": "x?", "answer": float("nan")}, {"question": float("nan"), "answer": 1}]
    rows += [{"id": float("nan"), "question": "y?", "answer": "NaN", "explanation": float("inf")}]
    rows, report = imported(tmp_path, write(tmp_path / "q.jsonl", rows), "math")
    assert report.refused.keys() == {"missing or null answer", "empty question"}
    [row] = rows["train"]
    assert (row["id"], row["answer"], row["explanation"]) == ("train-3", "NaN", "")


def test_answers_that_cannot_be_stated_are_noted(tmp_path):
    answers = ["east", "May 5", "3 apples and 4 pears", "12", "two\nlines"]
    rows = [{"question": f"{i}?", "answer": answer} for i, answer in enumerate(answers)]
    _, report = imported(tmp_path, write(tmp_path / "q.jsonl", rows), "math")
    [(reason, places)] = report.noted.items()
    assert reason.startswith("answer that no output can state")
    assert places == ["q.jsonl line 2", "q.jsonl line 3", "q.jsonl line 5"]


def test_steps_are_counted(tmp_path):
    rows = [{"question": "x?", "answer": "3", "explanation": "1 + 1 = 2, so 2 + 1 = 4. 1/0 = 3"}]
    rows += [{"question": "y?", "answer": "3"}, {"question": "z?", "answer": "2", "explanation": "1 + 1 = 2"}]
    _, report = imported(tmp_path, write(tmp_path / "q.jsonl", rows), "math")
    assert "train: 4 steps of explanations are checked: 2 correct, 1 incorrect, 1 unreadable" in report.lines()


def test_explanations_join_by_id(tmp_path):
    path = write(tmp_path / "e.jsonl", [{"id": "b", "explanation": "Trees grow."}])
    rows, _ = imported(tmp_path, write(tmp_path / "q.jsonl", ROWS), explanations={"train": [path]})
    assert [row["explanation"] for row in rows["train"]] == ["", "Trees grow."]


def test_oddities_are_noted(tmp_path):
    odd = [
        {"question": "x?", "choices": ["p q", "P  Q", "r s"], "answer": "p q"},
        {
            "question": "y?",
            "choices": ["p q", "r s"],
            "answer": "p q",
            "explanation": "The answer is either (a) or (b).",
        },
        {"question": "z?", "choices": ["p q", "r s"], "answer": "p q", "explanation": "So the answer is (b) r s."},
        {
            "question": "w?",
            "choices": ["p q", "r s"],
            "answer": "p q",
            "explanation": "The answer must be big. p q is.",
        },
    ]
    test = [{"question": "  X? ", "choices": ["r s", "p q", "p q"], "answer": "r s"}]
    files = {"train": write(tmp_path / "t.jsonl", odd), "test": write(tmp_path / "v.jsonl", test)}
    _, report = imported(tmp_path, files)
    assert {reason: places for reason, places in report.noted.items()} == {
        "two choices of equal text": ["t.jsonl line 1", "v.jsonl line 1"],
        "the answer is two of the choices": ["t.jsonl line 1"],
        "explanation names no choice or several": ["t.jsonl line 2"],
        "explanation ends in another answer": ["t.jsonl line 3"],
        "question stands in train too": ["v.jsonl line 1"],
    }


def test_the_same_rows_make_the_same_bytes(tmp_path):
    path = write(tmp_path / "q.jsonl", ROWS)
    settings = Import(name="quiz", problem="choice", files={"train": path})
    made = []
    for name in ("one", "two"):
        directory, _ = import_questions(settings, tmp_path / name)
        made.append({file.name: file.read_bytes() for file in directory.iterdir()})
    assert made[0] == made[1]


def test_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("explainft.data.questions.importing.SHARD_ROWS", 4)
    rows = [{"id": str(i), "question": f"q{i}?", "answer": str(i)} for i in range(9)]
    read, _ = imported(tmp_path, write(tmp_path / "q.jsonl", rows), "math")
    assert [row["id"] for row in read["train"]] == [str(i) for i in range(9)]
    assert len(list((tmp_path / "tfds").rglob("*-of-00003"))) == 3


def test_a_taken_name_is_refused_and_replaced_whole_on_request(tmp_path):
    imported(tmp_path, write(tmp_path / "q.jsonl", ROWS))
    with pytest.raises(UserError, match="exists; choose another --name"):
        imported(tmp_path, tmp_path / "q.jsonl")
    rows, _ = imported(tmp_path, write(tmp_path / "q.jsonl", ROWS[:1]), overwrite=True)
    assert len(rows["train"]) == 1


@pytest.mark.parametrize("name", ["", "Quiz", "my-quiz", "../quiz", "1quiz", "q q"])
def test_odd_names_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="--name="):
        Import(name=name, problem="text", files={"train": tmp_path})


def test_split_words():
    assert {split: [str(f) for f in files] for split, files in split_files(["train=a", "test=b=c"]).items()} == {
        "train": ["a"],
        "test": ["b=c"],
    }
    for words in (["a"], ["train="]):
        with pytest.raises(UserError, match="must be SPLIT=FILE"):
            split_files(words)
    with pytest.raises(UserError, match="has two files"):
        split_files(["train=a", "train=b"], most=1)


def test_the_command(tmp_path, capsys):
    path = write(tmp_path / "q.jsonl", [*ROWS, {"question": "x?"}])
    main(["data", "import", f"train={path}", "--name=quiz", "--problem=choice", f"--tfds_data_dir={tmp_path}/tfds"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "train: 2 rows"
    assert "refused 1: missing or null answer (q.jsonl line 3)" in out
    assert out[-1] == f"{tmp_path}/tfds/explained_questions/quiz/1.0.0"


def test_every_refused_and_noted_row_is_in_a_file(tmp_path):
    odd = {"question": "Which?", "choices": ["a tree", "A tree"], "answer": "a tree"}
    rows = [*ROWS, *({**odd, "question": f"Which {i}?"} for i in range(5)), {"question": "Who?", "choices": ["x"]}]
    settings = Import(name="quiz", problem="choice", files={"train": write(tmp_path / "q.jsonl", rows)})
    directory, report = import_questions(settings, tmp_path / "tfds")
    kept = [line.split("\t") for line in (directory / "rows.tsv").read_text().splitlines()]
    assert kept.count(["refused", "q.jsonl", "8", "missing or null answer"]) == 1
    assert [line for kind, _, line, reason in kept if reason == "two choices of equal text"] == [
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
    assert sum(report.counts.values()) == len(kept) == 11
    assert any("rows.tsv" in line for line in report.lines())
