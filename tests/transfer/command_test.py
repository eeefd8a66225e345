"""The command `transfer`: exit codes and messages."""

import pytest

from explainft.evaluation.infer import PRETRAINED
from tests.helpers.command import outcome
from tests.helpers.run_directories import shipped
from tests.helpers.transfer_runs import EVALUATIONS
from tests.helpers.vocabularies import write_t5_characters

TEST = EVALUATIONS["in domain"]["test"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give runs and --evaluations=TASK,TASK"),
        ((PRETRAINED,), "give runs and --evaluations=TASK,TASK"),
        (
            (PRETRAINED, "--evaluations=explained_tiny_medium_eval_tset"),
            "did you mean 'explained_tiny_medium_eval_test'",
        ),
        ((PRETRAINED, f"--evaluations={TEST}", "--baseline=nowhere"), "no checkpoint at nowhere"),
        (("nowhere", f"--evaluations={TEST}"), "no checkpoint at nowhere"),
        ((PRETRAINED, f"--evaluations={TEST}", "--step=7"), "has no checkpoint of step 7"),
        ((PRETRAINED, f"--evaluations={TEST},{TEST}"), "name each once"),
        ((PRETRAINED, f"--evaluations={TEST}", "--shots=0,2"), "needs {shots} in the name of an evaluation"),
        ((PRETRAINED, f"--evaluations={TEST}", "--shots=0,b"), "must be numbers of demonstrations"),
        ((PRETRAINED, f"--evaluations={TEST}", "--metric=exact_mach"), "did you mean 'exact_match'"),
        (("--gin_file=nothing.gin",), "no recipe 'nothing.gin'"),
        ((PRETRAINED, "--gin_file=experiments/transfer/shipped.gin"), "runs and --gin_file exclude each other"),
    ],
)
def test_errors_take_one_line(capfd, tmp_path, tiny_data_dir, transfer, words, message):
    words = [*words, "--output", tmp_path / "out", "--tfds_data_dir", tiny_data_dir]
    code, _, err = outcome(capfd, "transfer", *words)
    lines = [line for line in err.splitlines() if line.startswith("explainft: error: ")]
    assert code == 2 and len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()


def test_vocabulary_of_the_run_must_be_that_of_the_task(capfd, tmp_path, tiny_data_dir, transfer):
    run = shipped(tmp_path / "run")
    write_t5_characters(run / "vocabulary.model")
    words = [f"--evaluations={TEST}", "--output", tmp_path / "out", "--tfds_data_dir", tiny_data_dir]
    code, _, err = outcome(capfd, "transfer", run, *words)
    [line] = [line for line in err.splitlines() if line.startswith("explainft: error: ")]
    assert code == 2 and f"{TEST} has another vocabulary than run" in line


def test_dry_run_lists_cells_and_writes_nothing(capfd, tmp_path, tiny_data_dir, transfer):
    words = ["--output", tmp_path / "out", "--tfds_data_dir", tiny_data_dir, "--dry_run"]
    code, out, _ = outcome(capfd, "transfer", PRETRAINED, f"--evaluations={TEST}", *words)
    assert code == 0 and out.splitlines() == ["1 of 1 cells to do", "medium_tiny: tiny medium test"]
    assert not (tmp_path / "out").exists()
