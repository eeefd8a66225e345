"""The run that ships with the package, evaluated on cut datasets."""

import os
from pathlib import Path

import pytest

from explainft.cli.main import main
from explainft.evaluation.infer import PRETRAINED
from explainft.sweeps.runner import Runner
from explainft.transfer import run_transfer
from explainft.transfer.cells import CellSettings
from explainft.transfer.settings import Transfer
from tests.helpers.datasets import cache_tokens
from tests.helpers.transfer_runs import EVALUATIONS, perturbed

TASKS = [task for named in EVALUATIONS.values() for task in named.values()]


@pytest.fixture(scope="session")
def start_run(tmp_path_factory) -> Path:
    """The shipped run with noise in its weights: what a run may have started from."""
    return perturbed(tmp_path_factory.mktemp("runs") / "start")


@pytest.fixture(scope="session")
def transfer(start_run, tiny_data_dir) -> Transfer:
    """The shipped run and its start on four evaluations of eight examples."""
    cache_tokens(tiny_data_dir, *TASKS)
    runs = {"shipped": {"path": str(PRETRAINED), "baseline": str(start_run)}}
    return Transfer(runs, EVALUATIONS, num_examples=8)


@pytest.fixture(scope="session")
def settings(tiny_data_dir) -> CellSettings:
    return CellSettings(num_examples=8, batch_size=8, tfds_data_dir=tiny_data_dir)


@pytest.fixture(scope="session", autouse=True)
def in_process():
    """Computes cells in this process, which has imported and compiled all; a command of its own starts processes."""

    def run_command(runner, command, log) -> int:
        words = [f"--only_cells={os.getppid()}" if word.startswith("--only_cells") else word for word in command]
        main([*words, *runner._data_flags])
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run_command", run_command)
        yield


@pytest.fixture(scope="session")
def written(transfer, settings, tmp_path_factory, in_process) -> Path:
    """The directory of a matrix that was computed without a stop."""
    output = tmp_path_factory.mktemp("matrix") / "transfer"
    run_transfer.run(transfer, settings, output, jobs=1)
    return output
