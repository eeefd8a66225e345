"""A run that all tests of the command line share."""

from pathlib import Path

import pytest

from explainft.cli.main import main

ROOT = Path(__file__).parents[2]
RECIPE = f"--gin_file={ROOT / 'gin' / 'medium_tiny.gin'}"
SMALL = {
    "TRAIN_STEPS": 2, "WARMUP_STEPS": 1, "EVALUATOR_NUM_EXAMPLES": 4, "EVAL_PERIOD": 2, "EVAL_STEPS": 1,
    "LOG_PERIOD": 1, "EMB_DIM": 8, "MLP_DIM": 8, "NUM_LAYERS": 1, "NUM_HEADS": 1, "HEAD_DIM": 8,
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_data_dir):
    """Trains the recipe for two steps with a small model, and returns the run's directory."""
    directory = tmp_path_factory.mktemp("runs") / "medium"
    macros = [f"--gin.{name}={value}" for name, value in SMALL.items()]
    main(["train", RECIPE, f"--gin.MODEL_DIR={directory}", *macros, "--tfds_data_dir", tiny_data_dir])
    return directory
