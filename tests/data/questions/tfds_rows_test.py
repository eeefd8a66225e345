"""`explainft data import --tfds`: a small TFDS dataset, built here, by the names of its features."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data.questions import records
from explainft.data.questions.columns import parse_columns
from explainft.data.questions.importing import Import, import_questions

text, class_label = tfds.features.Text, tfds.features.ClassLabel
FEATURES = tfds.features.FeaturesDict(
    {
        "goal": text(),
        "sol1": text(),
        "sol2": text(),
        "label": class_label(num_classes=2),
        "nested": {"why": text(), "place": np.int64},
        "options": tfds.features.Sequence({"text": text(), "label": text()}),
        "key": text(),
        "sentiment": class_label(names=["negative", "positive"]),
        "truth": np.bool_,
        "id": text(),
    }
)


def row(i, **changes):
    return {
        "goal": f"Goal {i}?",
        "sol1": "a pan",
        "sol2": "a pot",
        "label": i % 2,
        "nested": {"why": f"Because {i}.", "place": i},
        "options": {"text": ["x y", "z é"], "label": ["1", "2"]},
        "key": "2",
        "sentiment": 1,
        "truth": i % 2 == 0,
        "id": f"#{i}",
        **changes,
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    rows = {
        "train": [row(i) for i in range(20)],
        "test": [row(30, label=-1), row(31), row(32, goal=b"\xff not UTF-8"), row(33, sol1=b"\xff")],
    }

    version = directory / "puzzles" / "1.0.0"
    version.mkdir(parents=True)
    infos = []
    for split, examples in rows.items():
        data = [FEATURES.serialize_example(FEATURES.encode_example(example)) for example in examples]
        with tf.io.TFRecordWriter(str(version / f"puzzles-{split}.tfrecord-00000-of-00001")) as file:
            for example in data:
                file.write(example)
        size = sum(map(len, data))
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[len(data)], num_bytes=size))
    tfds.folder_dataset.write_metadata(
        data_dir=str(version),
        features=FEATURES,
        split_infos=infos,
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )
    return directory


def imported(data_dir, tmp_path, problem, *fields, split="train", **settings):
    """Returns the questions and the report."""
    (tmp_path / "puzzles").symlink_to(data_dir / "puzzles")
    settings = Import(
        name="quiz",
        problem=problem,
        files={"train": Path(split)},
        tfds="puzzles",
        columns=parse_columns(fields),
        **settings,
    )
    directory, report = import_questions(settings, tmp_path)
    return list(records.read(directory, "train")), report


def test_choices_in_several_features(data_dir, tmp_path):
    fields = ("question=goal", "choices=sol1,sol2", "answer=label", "explanation=nested/why", "id=id")
    questions, report = imported(data_dir, tmp_path, "choice", *fields)
    assert [question.id for question in questions] == [f"#{i}" for i in range(20)]
    first, second = questions[:2]
    assert (first.question, first.choices, first.answer) == ("Goal 0?", ("a pan", "a pot"), "a pan")
    assert second.answer == "a pot" and second.explanation == "Because 1."
    kept = json.loads(first.fields)
    assert kept["key"] == "2" and kept["nested/place"] == 0 and "goal" not in kept and "nested/why" not in kept
    assert report.rows == {"train": 20}


def test_part_of_a_split(data_dir, tmp_path):
    questions, _ = imported(data_dir, tmp_path, "text", "question=goal", "answer=key", split="train[50%:]")
    assert [question.question for question in questions] == [f"Goal {i}?" for i in range(10, 20)]
    assert questions[0].id == "train-1"


def test_labels_of_choices(data_dir, tmp_path):
    questions, _ = imported(data_dir, tmp_path, "choice", "question=goal", "choices=options", "answer=key")
    assert (questions[0].choices, questions[0].answer) == (("x y", "z é"), "z é")


def test_class_labels_are_choices(data_dir, tmp_path):
    questions, _ = imported(data_dir, tmp_path, "choice", "question=goal,key", "answer=sentiment")
    assert (questions[0].choices, questions[0].answer) == (("negative", "positive"), "positive")
    assert questions[0].question == "Goal 0?\n2"


def test_truth_and_numbers(data_dir, tmp_path):
    questions, _ = imported(data_dir, tmp_path, "choice", "question=goal", "answer=truth")
    assert [question.answer for question in questions[:2]] == ["yes", "no"]
    (tmp_path / "numbers").mkdir()
    questions, _ = imported(data_dir, tmp_path / "numbers", "math", "question=goal", "answer=nested/place")
    assert [question.answer for question in questions[:2]] == ["0", "1"]


def test_unlabelled_and_not_utf8_rows_are_left_out(data_dir, tmp_path):
    fields = ("question=goal", "choices=sol1,sol2", "answer=label")
    questions, report = imported(data_dir, tmp_path, "choice", *fields, split="test")
    assert [question.id for question in questions] == ["train-2"]
    assert dict(report.refused) == {
        "missing or null answer": ["test line 1"],
        "question holds a lone surrogate, which is not a character": ["test line 3"],
        "choices holds a lone surrogate, which is not a character": ["test line 4"],
    }


@pytest.mark.parametrize(
    ("fields", "split", "line"),
    [
        (("question=gaol", "answer=key"), "train", "--fields: puzzles has no feature 'gaol'; did you mean 'goal'"),
        (("question=goal", "answer=key"), "tarin", "puzzles has no split 'tarin'; it has .*train"),
    ],
)
def test_unknown_names_are_refused(data_dir, tmp_path, fields, split, line):
    with pytest.raises(UserError, match=line) as error:
        imported(data_dir, tmp_path, "text", *fields, split=split)
    assert "\n" not in error.value.line and not list((tmp_path / "explained_questions").rglob("*.*"))


def test_a_dataset_that_is_not_built(tmp_path):
    settings = Import(
        name="quiz",
        problem="text",
        files={"train": Path("train")},
        tfds="no_such_set",
        columns=parse_columns(["question=q"]),
    )
    with pytest.raises(UserError, match="--tfds=no_such_set .*build it first: tfds build no_such_set") as error:
        import_questions(settings, tmp_path)
    assert "\n" not in error.value.line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["question"], "must be FIELD=FEATURE"),
        (["question=a,"], "must be FIELD=FEATURE"),
        (["quest=a"], "'quest' must be one of id, question, choices, answer, explanation"),
        (["answer=a"], "give --fields question=FEATURE"),
    ],
)
def test_wrong_fields(words, line):
    with pytest.raises(UserError, match=line):
        parse_columns(words)


def test_the_command(data_dir, capsys):
    flags = ["--fields", "question=goal", "answer=key", "--name=quiz", "--problem=math", f"--tfds_data_dir={data_dir}"]
    main(["data", "import", "train=train", "--tfds=puzzles", *flags])
    assert capsys.readouterr().out.splitlines()[0] == "train: 20 rows"
    for extra, line in ((["--format=gsm8k"], "leave it out"), (["--tfds="], "cannot be opened")):
        with pytest.raises(SystemExit):
            main(["data", "import", "train=train", "--tfds=puzzles", *flags, "--overwrite", *extra])
        assert line in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "import", "train=train", *flags, "--overwrite"])
    assert "cannot read train" in capsys.readouterr().err
