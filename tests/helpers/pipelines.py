"""Pipelines for tests."""

from pathlib import Path

from explainft.sweeps.pipeline import Pipeline
from explainft.sweeps.stages import Stage
from tests.helpers.sweeps import ROOT, TASK, TINY

RECIPE = {"recipe": str(ROOT / "gin/medium_tiny.gin")}
FIRST = {**RECIPE, **TINY}
SECOND = {**FIRST, "INITIAL_CHECKPOINT_PATH": "{generator}"}
TEST = f"eval {{generator}} --mixture {TASK}"


def stages_of(stages: dict, axes: dict | None = None, runs: str = "runs") -> dict[str, Stage]:
    """The stages of the only trial."""
    [trial] = Pipeline(stages, axes or {"seed": {"0": {}}}).trials("name", Path(runs))
    return {stage.name: stage for stage in trial.make_stages()}


def write_pipeline(path: Path, stages: dict, seeds: tuple[str, ...] = ("0",)) -> str:
    path.write_text(
        "from __gin__ import dynamic_registration\nfrom explainft.sweeps import pipeline\n"
        f"pipeline.Pipeline.stages = {stages!r}\n"
        f"pipeline.Pipeline.axes = { ({'seed': {seed: {} for seed in seeds}})!r}\n"
    )
    return str(path)
