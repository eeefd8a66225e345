"""Datasets of sample files, and the tasks that read them."""

import json
import subprocess
import sys

import pytest
import seqio
import tensorflow_datasets as tfds

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data.sample_datasets import (
    descriptor_file,
    pack_digests,
    read_descriptor,
    training_task,
    unpack_digests,
    validation_task,
)
from explainft.samples.dataset import SamplesDataset, make_dataset
from explainft.samples.examples import Selection
from explainft.samples.prompts import read_prompt
from tests.helpers.sample_files import sampled_row, write_sample_rows


def settings(tmp_path, train, validation, rows=("verifier",), per_problem=4, files=None):
    written = {
        split: [write_sample_rows(tmp_path / f"{split}.jsonl", of_split)]
        for split, of_split in (("train", train), ("validation", validation))
    }
    selection = Selection(read_prompt("short"), per_problem, 0)
    return SamplesDataset("tiny", list(rows), {**written, **(files or {})}, selection)


def numbered(*numbers, **changed):
    return [sampled_row(i, **changed) for i in numbers]


def test_rows_are_pairs_and_the_tasks_read_them(tmp_path, registries, seqio_unchanged, monkeypatch):
    from tasks import samples

    # Eleven problems: without order, the pairs would not stay side by side.
    made = settings(tmp_path, [*numbered(*range(11)), sampled_row(50, incorrect=0)], numbered(20, 21))
    directory, report = make_dataset(made, tmp_path / "data")
    assert report == [
        "train: 44 verifier examples of 12 problems; left out 1 problem with correct samples only",
        "validation: 8 verifier examples of 2 problems",
    ]
    assert directory == tmp_path / "data/explained_samples/tiny_verifier/1.0.0"
    seqio.set_tfds_data_dir_override(str(tmp_path / "data"))
    samples.register_datasets()
    names = {name for name in seqio.TaskRegistry.names() if name.startswith("explained_tiny_verifier")}
    variants = ("", "_compact", "_eval_validation", "_eval_validation_compact")
    assert names == {f"explained_tiny_verifier{variant}" for variant in variants}
    assert "explained_tiny_verifier_eval_compact" in seqio.MixtureRegistry.names()
    assert validation_task("tiny", "verifier", "compact") in names and training_task("tiny", "verifier") in names
    task = seqio.TaskRegistry.get("explained_tiny_verifier_compact")
    found = list(tfds.as_numpy(task.get_dataset(sequence_length=None, split="train", shuffle=False)))
    inputs = [example["inputs_pretokenized"].decode() for example in found]
    targets = [example["targets_pretokenized"].decode() for example in found]
    assert targets == ["correct", "incorrect"] * 22
    questions = [text.split("\n")[0] for text in inputs]
    assert questions[::2] == questions[1::2] and len(set(questions)) == 11


def test_the_same_files_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        make_dataset(settings(tmp_path, numbered(1, 2), numbered(3)), tmp_path / name)
    first, second = (sorted((tmp_path / name).rglob("*.tfrecord*")) for name in ("a", "b"))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_joint_rows_and_the_generator_that_reads_them(tmp_path):
    made = settings(tmp_path, numbered(1, 2), numbered(3), rows=("verifier", "gold"))
    _, report = make_dataset(made, tmp_path / "data")
    assert report[0] == "train: 8 verifier, 2 gold examples of 2 problems"
    descriptor = read_descriptor(descriptor_file("tiny_verifier_gold", tmp_path / "data"))
    assert descriptor.generator == {"problem": "listops", "style": "medium", "modulus": 10}
    meta = descriptor.training_meta()
    assert (
        meta["verifier"]["prompt"] == "{question}\n{solution}" and len(unpack_digests(meta["trained_questions"])) == 2
    )


def test_digests_are_packed_without_loss():
    digests = {0, 1, 2**64 - 1, 12345}
    assert unpack_digests(pack_digests(digests)) == digests and unpack_digests(pack_digests([])) == set()


def test_a_question_in_two_splits_is_refused(tmp_path):
    other = sampled_row(2, id="another id")
    other["question"] = other["question"].lower().replace(" ", "  ")  # the same, normalized
    with pytest.raises(UserError, match="1 of 2 problems of validation are also in train, such as id 'another id'"):
        make_dataset(settings(tmp_path, numbered(1, 2), [other, sampled_row(3)]), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_samples_of_one_problem_in_several_files_are_joined(tmp_path):
    files = [write_sample_rows(tmp_path / f"{i}.jsonl", numbered(1, incorrect=i)) for i in (0, 2)]
    made = settings(tmp_path, [], numbered(3), files={"train": files})
    assert make_dataset(made, tmp_path / "data")[1][0] == "train: 4 verifier examples of 1 problem"


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            lambda: numbered(1, 2, incorrect=0),
            "train gives no example for the rows 'verifier': 2 problems with correct samples only; sample more",
        ),
        (lambda: [sampled_row(1), sampled_row(2, style="long")], "id 'p2' of train has samples of .*style=long"),
    ],
)
def test_unusable_samples_are_refused(tmp_path, train, words):
    with pytest.raises(UserError, match=words):
        make_dataset(settings(tmp_path, train(), numbered(3)), tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.tfrecord*"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--rows=verifier,golden"], "--rows='verifier,golden' must be one or several of verifier,correct,gold"),
        (["--per_problem=5"], "--per_problem=5 must be even, half correct and half incorrect; try 6"),
        (["--labeled_by=each_step"], "--labeled_by each_step has labels in the decoder; give --prompt decoder"),
        (["--name=Tiny"], "--name='Tiny' must be lower-case"),
        (["--seed=-1"], "--seed=-1 must be"),
        (["--prompt=none.txt"], "cannot read --prompt=none.txt"),
    ],
)
def test_wrong_flags_are_one_line(tmp_path, capsys, changed, words):
    file = write_sample_rows(tmp_path / "s.jsonl", numbered(1))
    given = ["data", "samples", f"train={file}", f"validation={file}", "--name=tiny", "--rows=verifier", *changed]
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert words in capsys.readouterr().err


def test_the_command_line(tmp_path):
    train, validation = (write_sample_rows(tmp_path / f"{i}.jsonl", numbered(i)) for i in (1, 2))
    command = [sys.executable, "-m", "explainft.cli.main", "data", "samples", f"train={train}", "--name=tiny"]
    flags = ["--rows=verifier", f"--tfds_data_dir={tmp_path / 'data'}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode == 2 and "no file of the split validation; give train=FILE" in done.stderr
    done = subprocess.run([*command, f"validation={validation}", *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    directory = tmp_path / "data/explained_samples/tiny_verifier/1.0.0"
    assert done.stdout.endswith(f"{directory}\n")
    assert json.loads((directory / "samples.json").read_text())["examples"] == {"train": 4, "validation": 4}
