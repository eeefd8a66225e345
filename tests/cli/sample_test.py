"""`explainft sample` on its command line: sources, bad input, and a process that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from explainft.evaluation.infer import PRETRAINED
from explainft.samples.files import read_samples
from tests.helpers.command import outcome
from tests.helpers.datasets import environment
from tests.samples.sampling_test import EXPRESSIONS

MIXTURE = "explained_tiny_medium_eval_compact"


def test_examples_of_a_mixture(tiny_data_dir, tmp_path, capfd):
    flags = ["--num_examples", 3, "--num_samples", 2, "--tfds_data_dir", tiny_data_dir]
    output = tmp_path / "samples.jsonl"
    code, out, _ = outcome(capfd, "sample", PRETRAINED, "--mixture", MIXTURE, *flags, "--output", output)
    assert (code, out) == (0, "")
    problems = read_samples(output)
    assert len(problems) == 3 * 4 and all(len(problem.samples) == 2 for problem in problems)
    assert {problem.row["sampling"]["task"] for problem in problems} == {
        f"explained_tiny_medium_eval_{split}_compact" for split in ("validation", "test", "longer", "larger_numbers")
    }
    assert all(
        problem.gold and problem.target.is_correct(problem.target.read_answer(problem.gold)) for problem in problems
    )
    one = tmp_path / "test.jsonl"
    dataset = ["--dataset", "tiny", "--split", "test"]
    assert outcome(capfd, "sample", PRETRAINED, *dataset, *flags, "--output", one)[0] == 0
    assert one.read_text() in output.read_text()


def test_a_file_of_an_earlier_command_is_an_input(tmp_path, capfd):
    infer_file, output = tmp_path / "infer.jsonl", tmp_path / "samples.jsonl"
    assert outcome(capfd, "infer", PRETRAINED, *EXPRESSIONS[:2], "--output", infer_file)[0] == 0
    flags = ["--input", infer_file, "--num_samples", 1, "--output", output]
    assert outcome(capfd, "sample", PRETRAINED, *flags)[0] == 0
    assert [problem.row["question"] for problem in read_samples(output)] == list(EXPRESSIONS[:2])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["[MAX 1 2 ]", "--temperature", 0], "temperature=0.0 must be a finite number above 0"),
        (["[MAX 1 2 ]", "--temperature", "nan"], "temperature=nan must be"),
        (["[MAX 1 2 ]", "--top_p", 1.5], "top_p=1.5 must be above 0 and at most 1"),
        (["[MAX 1 2 ]", "--top_k", -1], "top_k=-1 must be"),
        (["[MAX 1 2 ]", "--seed", 2**32], "seed=4294967296 must be at most"),
        (["[MAX 1 2 ]", "--num_samples", 0], "'0' must be a positive integer"),
        (["[MAX 1 2 ]", "--output", "/no/such/file"], "cannot write /no/such/file"),
        (["[MAX 1 2 ]", "--mixture", MIXTURE], "--mixture and questions exclude each other"),
        (["[MAX 1 2 ]", "--num_examples", 1], "belong to --mixture or --dataset"),
        (["[MAX 1 2 ", "--seed", 1], "expected ']' to close the MAX"),
        (["--dataset", "homes"], "needs a run of imported questions"),
    ],
)
def test_bad_flags_take_one_line(tmp_path, capfd, flags, words):
    output = ["--num_samples", 2, "--output", tmp_path / "s"]
    code, _, errors = outcome(capfd, "sample", PRETRAINED, *output, *flags)
    assert code == 2 and len(errors.splitlines()) == 1 and words in errors
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_not_replaced(tmp_path, capfd):
    output = tmp_path / "notes.jsonl"
    for text, words in (("not JSON\n", "line 1 is not JSON"), ('{"a": 1}\n', "line 1 is not of a sample file")):
        output.write_text(text)
        code, _, errors = outcome(capfd, "sample", PRETRAINED, "[MAX 1 2 ]", "--num_samples", 1, "--output", output)
        assert code == 2 and words in errors and output.read_text() == text


def test_the_layout_of_infer_replaces_no_file(tmp_path, capfd):
    output = tmp_path / "samples.jsonl"
    flags = ["[MAX 1 2 ]", "--num_samples", 1, "--output", output]
    assert outcome(capfd, "sample", PRETRAINED, *flags)[0] == 0
    before = output.read_bytes()
    code, _, errors = outcome(capfd, "sample", PRETRAINED, *flags, "--output_format", "infer")
    assert code == 2 and len(errors.splitlines()) == 1 and "exists, and to a file of --output_format infer" in errors
    assert output.read_bytes() == before


def run_until(journal, size, flags, number):
    """Starts a command, and sends it the signal when the journal has that many bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "explainft.cli.main", *map(str, flags)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not (journal.exists() and journal.stat().st_size >= size):
        time.sleep(0.002)
    if process.poll() is None:
        os.kill(process.pid, number)
    return process.communicate(timeout=300)[1], process.returncode


def test_killed_at_any_moment_the_rerun_writes_the_same_bytes(tmp_path, capfd):
    rng = random.Random(5)
    questions = tmp_path / "questions.txt"
    questions.write_text("".join(f"[SUM {i} 4 [MAX 2 {j} ] 7 ]\n" for i in range(10) for j in range(10)))
    flags = ["sample", PRETRAINED, "--input", questions, "--num_samples", 8, "--temperature", 2, "--batch_size", 8]
    whole, output = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert outcome(capfd, *flags, "--output", whole)[0] == 0
    sizes = sorted(rng.randrange(500, 3 * whole.stat().st_size // 4) for _ in range(2))
    journal = tmp_path / "killed.jsonl.partial"
    codes = [run_until(journal, size, [*flags, "--output", output], signal.SIGKILL)[1] for size in sizes]
    assert codes == [-signal.SIGKILL] * 2
    errors, code = run_until(journal, journal.stat().st_size + 1, [*flags, "--output", output], signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "rerun the same command to resume" in errors
    assert not output.exists()
    assert outcome(capfd, *flags, "--output", output)[0] == 0
    assert output.read_bytes() == whole.read_bytes()
    assert len([json.loads(line) for line in output.read_text().splitlines()]) == 100
