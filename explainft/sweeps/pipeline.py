"""A grid of pipelines: stages in sequence, such as a generator, its samples, a verifier and a second generator.

Each stage is a command of explainft that the user may run as well. A complete stage is skipped, an incomplete one is
resumed by its own command, and each trial writes one JSON file with what its stages reported.
"""

import dataclasses
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError, require_positive
from explainft.sweeps.cost_model import TrainCost, dataset_digests, train_cost
from explainft.sweeps.stages import IN_BRACES, Stage, flag_value
from explainft.sweeps.sweep import check_axes, require_short

RECIPE, FLOPS_OF = "recipe", "flops_of"  # are given beside the macros of a training stage
INITIAL_PATH = "INITIAL_CHECKPOINT_PATH"
NAME = re.compile(r"[A-Za-z]\w*")
OUTPUTS_CHOSEN = ("MODEL_DIR",)  # by the pipeline
NOT_STAGES = ("sweep", "pipeline", "train")  # as command lines


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Defines a pipeline: each combination of the axes' values is a trial, which runs all stages in their order.

    `axes` maps each value of each axis to names with values: {"style": {"short": {"steps": 2500}, ...}}. `stages` maps
    the name of each stage to what it does:

    - a command line of explainft: "vote {samples} --output votes". What --output or --report names lies in the trial's
      directory;
    - a dictionary, which trains a run: {"recipe": "gin/{style}_tiny.gin", "TRAIN_STEPS": "{steps}"}. All but "recipe"
      and "flops_of" are macros. "macros" may hold more of them, which those beside it override. "flops_of" names
      training stages: TRAIN_STEPS is then as many steps as take the FLOPs of their train steps.

    In strings, a name in braces stands for the trial's value on an axis, a name that this value sets, or the output of
    an earlier stage: the directory of its run, the value of its --output, or of its --name. A run that starts from
    another stage, by INITIAL_CHECKPOINT_PATH, counts its own steps: INITIAL_STEP is 0 unless the stage sets it, or
    TRAIN_STEPS_RELATIVE.

    `data` are configs of explained_listops that are built first. `jobs` is the number of trials at once unless --jobs
    is given; None: as many as cores and memory allow, and one on an accelerator.
    """

    stages: dict[str, Any]
    axes: dict[str, dict[str, dict[str, Any]]] = dataclasses.field(default_factory=lambda: {"seed": {"0": {}}})
    data: Sequence[str] = ()
    jobs: int | None = None

    def __post_init__(self):
        check_axes(self.axes)
        if not self.stages:
            raise UserError("stages={} is empty; give each stage a command line or the macros of a run")
        if isinstance(self.data, str):
            raise UserError(f"data={self.data!r} must be a list of names: [{self.data!r}]")
        if self.jobs is not None:
            require_positive(jobs=self.jobs)
        names = Counter([*self.axes, *{name for axis in self.axes.values() for v in axis.values() for name in v}])
        for name in self.stages:
            if not NAME.fullmatch(name):
                raise UserError(f"stage {name!r} must be a name of letters, digits and _: others name it in braces")
            if name in names:
                raise UserError(f"stage {name!r} has the name of an axis or of what an axis sets; choose another")

    def trials(self, name: str, runs: Path) -> list["PipelineTrial"]:
        """Returns the trials of the pipeline `name`, in `runs`/`name`, without the costs of their stages."""
        found = []
        for values in itertools.product(*self.axes.values()):
            axis_values = dict(zip(self.axes, values, strict=True))
            names: dict[str, Any] = dict(axis_values)
            for axis, value in axis_values.items():
                names |= self.axes[axis][value]
            found.append(PipelineTrial(name, axis_values, names, self.stages, runs / name / "-".join(values)))
            require_short(f"{found[-1].name}.json")
        for name, times in Counter(trial.name for trial in found).items():
            if times > 1:
                raise UserError(f"{times} trials would be named {name!r}; change the values of an axis")
        return found


@dataclasses.dataclass(frozen=True)
class PipelineTrial:
    """One combination of axis values. `names` are those and what they set."""

    pipeline: str
    axis_values: dict[str, str]
    names: dict[str, Any]
    definitions: dict[str, Any]
    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    def make_stages(self) -> list[Stage]:
        """Returns the stages, with the costs of those that train. Must be called in the main thread: it uses gin.

        Raises UserError, which names the stage.
        """
        stages: dict[str, Stage] = {}
        costs: dict[str, TrainCost] = {}
        for name, definition in self.definitions.items():
            try:
                if isinstance(definition, dict):
                    stages[name], costs[name] = self._training_stage(name, definition, stages, costs)
                else:
                    stages[name] = self._command_stage(name, definition, stages)
                _check_best(stages[name], costs)
            except UserError as e:
                raise UserError(f"stage {name}: {e.line}") from e
        return list(stages.values())

    def _command_stage(self, name: str, definition: Any, stages: Mapping[str, Stage]) -> Stage:
        if not isinstance(definition, str) or not definition.strip():
            raise UserError(f"{definition!r} must be a command line of explainft, or a dictionary that trains a run")
        try:
            split = shlex.split(definition)
        except ValueError as e:
            raise UserError(f"{definition!r}: {e}; quote as in a shell") from e
        words = tuple(self._fill(word, stages) for word in split)
        if words[0] in NOT_STAGES:
            fix = "a stage that trains is a dictionary: {'recipe': 'gin/medium_tiny.gin', 'TRAIN_STEPS': 2000}"
            raise UserError(f"{words[0]!r} is not a command of a stage; {fix}")
        if words[0] == "eval" and flag_value(words, "--mixture") is None:
            raise UserError("give --mixture, whose metrics the stage reports")
        if words[0] == "eval" and (len(words) < 2 or words[1].startswith("-")):
            raise UserError("give the run first: eval {generator} --mixture ...")
        return Stage(name, self.directory, words, words)

    def _training_stage(
        self, name: str, definition: dict[str, Any], stages: Mapping[str, Stage], costs: Mapping[str, TrainCost]
    ) -> tuple[Stage, TrainCost]:
        given = {**definition.get("macros", {}), **definition}
        macros = {macro: self._fill(value, stages) for macro, value in given.items() if macro != "macros"}
        gin_file, flops_of = macros.pop(RECIPE, None), macros.pop(FLOPS_OF, ())
        if not isinstance(gin_file, str):
            raise UserError("it has no recipe; give one such as 'recipe': 'gin/medium_tiny.gin'")
        for macro in OUTPUTS_CHOSEN:
            if macro in macros:
                raise UserError(f"it sets {macro}, which the pipeline chooses; remove it")
        if IN_BRACES.search(str(macros.get(INITIAL_PATH, ""))) and "TRAIN_STEPS_RELATIVE" not in macros:
            macros.setdefault("INITIAL_STEP", 0)
        if flops_of:
            macros["TRAIN_STEPS"] = self._steps_of_equal_flops(gin_file, macros, flops_of, stages, costs)
        placed = Stage(name, self.directory, _train_words(gin_file, self.directory / name, macros), (), trains=True)
        filled = [word.removeprefix("--gin.") for word in placed.command(stages)[2:]]
        cost = train_cost(gin_file, filled)
        # Paths are not settings: a trial whose directory is moved is the same.
        settings = [line.replace(str(self.directory), "") for line in cost.settings]
        dataset = cost.macros.get("DATASET")
        if dataset is not None and not any(stage.output == dataset for stage in stages.values()):
            settings += dataset_digests(cost.macros)
        stage = dataclasses.replace(
            placed, settings=tuple(settings), parameters=cost.parameters, steps=cost.steps, flops=cost.flops
        )
        return stage, cost

    def _steps_of_equal_flops(
        self,
        gin_file: str,
        macros: dict[str, Any],
        flops_of: Any,
        stages: Mapping[str, Stage],
        costs: Mapping[str, TrainCost],
    ) -> int:
        """Returns the number of steps whose FLOPs are those of all train steps of other stages, rounded."""
        flops_of = [flops_of] if isinstance(flops_of, str) else flops_of
        if "TRAIN_STEPS" in macros:
            raise UserError("it gives both TRAIN_STEPS and flops_of; remove one")
        for name in flops_of:
            if name not in costs:
                raise UserError(f"flops_of names {name!r}; stages that train before it: {', '.join(costs) or 'none'}")
        step = Stage("", self.directory, _train_words(gin_file, self.directory, {**macros, "TRAIN_STEPS": 2**30}), ())
        cost = train_cost(gin_file, [word.removeprefix("--gin.") for word in step.command(stages)[2:]])
        flops = [costs[name].flops for name in flops_of]
        if cost.flops_per_step is None or None in flops:
            raise UserError("flops_of needs TASK_FEATURE_LENGTHS of this stage and of those that it names")
        return max(1, round(sum(n for n in flops if n is not None) / cost.flops_per_step))

    def _fill(self, value: Any, stages: Mapping[str, Stage]) -> Any:
        """Returns a string with the trial's values; names of earlier stages stay in braces."""
        if not isinstance(value, str):
            return value
        try:
            filled = value.format(**self.names, **{name: f"{{{name}}}" for name in stages})
        except KeyError as e:
            known = ", ".join([*self.names, *stages])
            raise UserError(f"{value!r} names {e}; names of axes and of earlier stages: {known}") from e
        except (IndexError, ValueError) as e:
            raise UserError(f"{value!r}: {e}; braces hold the name of an axis or of an earlier stage") from e
        for name in IN_BRACES.findall(filled):
            if name in stages and stages[name].output is None:
                raise UserError(f"it reads {{{name}}}, which writes nothing; give that stage --output or --name")
        return filled


def _train_words(gin_file: str, run: Path, macros: Mapping[str, Any]) -> tuple[str, ...]:
    bindings = {"MODEL_DIR": str(run), **macros}
    return "train", f"--gin_file={gin_file}", *(f"--gin.{name}={value}" for name, value in bindings.items())


def _check_best(stage: Stage, costs: Mapping[str, TrainCost]) -> None:
    """Refuses a stage that reads the best checkpoint of a run that does not keep it."""
    for name in stage.reads:
        by_step = flag_value(stage.words, "--step") == "best"
        reads_best = by_step or any(f"{{{name}}}/checkpoints/best" in word for word in stage.words)
        if reads_best and name in costs and not costs[name].keeps_best:
            raise UserError(f"it reads the best checkpoint of {name}; give that stage 'KEEP_BEST': True")
