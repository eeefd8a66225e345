"""An import that fails or is interrupted leaves nothing half-written, and can be repeated."""

import gzip
import json

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data.questions import importing, records
from explainft.data.questions.importing import Import, import_questions

ROWS = [{"id": str(i), "question": f"What is {i}?", "answer": str(i)} for i in range(50)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(path, **changes):
    return Import(name="quiz", problem="math", files={"train": path}, **changes)


def interrupt(monkeypatch, after):
    """The writer raises what Ctrl-C raises, after some rows."""
    original, written = records.Writer.write, []

    def write_or_raise(self, question):
        written.append(question)
        if len(written) > after:
            raise KeyboardInterrupt
        original(self, question)

    monkeypatch.setattr(records.Writer, "write", write_or_raise)


def read(directory):
    return [question.id for question in records.read(directory, "train")]


def test_an_interrupted_import_is_repeated_whole(tmp_path, monkeypatch):
    path, data_dir = write(tmp_path / "q.jsonl", ROWS), tmp_path / "tfds"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 20)
        import_questions(settings(path), data_dir)
    assert not list(data_dir.rglob("*.*"))
    killed = data_dir / "explained_questions/quiz/1.0.0.abc.incomplete"  # left by a process that could not clean up
    killed.mkdir(parents=True)
    (killed / "train.0.incomplete").write_bytes(b"half")
    directory, _ = import_questions(settings(path), data_dir)
    assert read(directory) == [row["id"] for row in ROWS]
    assert not killed.exists()


def test_an_interrupted_overwrite_keeps_the_old_dataset(tmp_path, monkeypatch):
    data_dir = tmp_path / "tfds"
    directory, _ = import_questions(settings(write(tmp_path / "old.jsonl", ROWS[:3])), data_dir)
    path = write(tmp_path / "q.jsonl", ROWS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 20)
        import_questions(settings(path, overwrite=True), data_dir)
    assert read(directory) == ["0", "1", "2"]
    assert [file.name for file in directory.parent.iterdir()] == ["1.0.0"]
    import_questions(settings(path, overwrite=True), data_dir)
    assert len(read(directory)) == len(ROWS)


def test_a_dataset_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    data_dir = tmp_path / "tfds"
    path = write(tmp_path / "q.jsonl", ROWS)
    directory, _ = import_questions(settings(write(tmp_path / "old.jsonl", ROWS[:3])), data_dir)
    rename, failed = importing.Path.rename, []

    def fail(self, target):
        if target == directory and not failed:
            failed.append(self)
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(importing.Path, "rename", fail)
    with pytest.raises(UserError, match="No space left on device"):
        import_questions(settings(path, overwrite=True), data_dir)
    assert read(directory) == ["0", "1", "2"]
    assert [file.name for file in directory.parent.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b'{"question": "' + b"x" * 50_000_000 + b'", "answer": "1"}\n', "line 2 is longer than 10,485,760 bytes"),
        (b'{"question": "x?", "answer": "1', "line 2 is not JSON"),
        (bytes(range(256)) * 100, "line 2 is not"),
        (b"\x7fELF\x02\x01\x01" + bytes(1000), "line 2 is not JSON"),
        (gzip.compress(b'{"question": "x?"}\n' * 1000)[:-20], "cannot read|not JSON"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
    ],
    ids=["empty", "50 MB line", "truncated", "binary", "program", "truncated gzip", "picture"],
)
def test_an_unreadable_file_is_one_line_and_nothing_else(tmp_path, content, message, capsys):
    good = json.dumps(ROWS[0]).encode() + b"\n"
    whole = content[:2] == b"\x1f\x8b" or not content
    path = tmp_path / "q.jsonl"
    path.write_bytes(content if whole else good + content)
    with pytest.raises(SystemExit) as exit:
        main(["data", "import", f"train={path}", "--name=quiz", "--problem=math", f"--tfds_data_dir={tmp_path}/tfds"])
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == "" and err.count("\n") == 1 and len(err) < 500
    with pytest.raises(UserError, match=message):
        import_questions(settings(path), tmp_path / "tfds")
    assert not list((tmp_path / "tfds").rglob("*.*"))


def test_directories_and_files_in_the_wrong_place(tmp_path):
    with pytest.raises(UserError, match="cannot read .*Is a directory"):
        import_questions(settings(tmp_path), tmp_path / "tfds")
    path = write(tmp_path / "q.jsonl", ROWS)
    with pytest.raises(UserError, match="cannot write .*Not a directory.*choose another directory"):
        import_questions(settings(path), path)


@pytest.mark.parametrize(
    "changes",
    [{"choices": ["a", "\ud800"], "answer": "a"}, {"id": "\udc00"}, {"answer": "\ud800"}, {"explanation": "\ud800"}],
)
def test_lone_surrogates_are_left_out(tmp_path, changes):
    path = write(tmp_path / "q.jsonl", [ROWS[0], {"question": "x?", "answer": "1", **changes}])
    directory, report = import_questions(settings(path), tmp_path / "tfds")
    assert read(directory) == ["0"]
    [reason] = report.refused
    assert reason == f"{next(iter(changes))} holds a lone surrogate, which is not a character"
