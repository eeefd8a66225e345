"""Sweeps for tests, and a stand-in for the commands that a sweep starts."""

import sys
from pathlib import Path

from explainft.sweeps.sweep import Sweep

ROOT = Path(__file__).parents[2]
TASK = "explained_tiny_medium_eval_test_compact"
TINY = {  # macros of the smallest run
    "TRAIN_STEPS": 2,
    "WARMUP_STEPS": 0,
    "EVALUATOR_NUM_EXAMPLES": 4,
    "EVAL_STEPS": 1,
    "EMB_DIM": 32,
    "NUM_LAYERS": 1,
    "LOG_PERIOD": 1,
}


def grid(**changed) -> Sweep:
    arguments = {
        "axes": {"seed": {"0": {"RANDOM_SEED": 0}}, "style": {"none": {"recipe": "gin/none_tiny.gin"}, "medium": {}}},
        "evaluations": ("explained_tiny_{style}_eval_compact",),
        "recipe": "gin/medium_tiny.gin",
    }
    return Sweep(**(arguments | changed))


def write_sweep(path: Path, axes: dict, evaluations: tuple[str, ...] = (TASK,)) -> str:
    path.write_text(
        f"from __gin__ import dynamic_registration\nfrom explainft.sweeps import sweep\nsweep.Sweep.axes = {axes!r}\n"
        f"sweep.Sweep.recipe = {str(ROOT / 'gin/medium_tiny.gin')!r}\nsweep.Sweep.evaluations = {evaluations!r}\n"
    )
    return str(path)


def stand_in(shipped_run: Path) -> tuple[str, ...]:
    """The start of a command that trains and scores at once, with the checkpoint of a run that is there already."""
    return sys.executable, str(Path(__file__).with_name("sweep_command.py")), str(shipped_run)
