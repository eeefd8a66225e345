"""What `explainft transfer` compares, as flags or a gin file define it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from explainft.core.errors import UserError, nearest, require_count, require_name, require_positive
from explainft.evaluation.task_names import config_and_style, parse_evaluation

SHOTS = "{shots}"  # in the name of an evaluation
RUN_FIELDS = ("path", "step", "baseline")


class RunSetting(NamedTuple):
    """A checkpoint to evaluate. `baseline`: the label of another run, or the path of a checkpoint."""

    label: str
    path: str
    step: int | str | None = None
    baseline: str | None = None


class Evaluation(NamedTuple):
    """A task or mixture of `module`; SHOTS in its name stands for a number of demonstrations."""

    label: str
    group: str
    name: str
    module: str


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Defines a transfer matrix: each of `runs` is evaluated on each of `evaluations`.

    `runs` maps labels to paths of runs or checkpoints, or to {"path": ..., "step": ..., "baseline": ...}. `evaluations`
    maps the names of groups, such as "other lengths", to labels with the names of tasks or mixtures. A name is that of
    a task of `module`, or MODULE:TASK; {shots} in it stands for each of `shots`. `baseline`, the label of a run or the
    path of a checkpoint, is what all runs are compared with that name no other (None: each run with the checkpoint that
    its INITIAL_CHECKPOINT_PATH names). `num_examples` are those of each task (None: all). `metric` is the one that is
    compared (None: exact_match, or the first metric of a task that lacks it).
    """

    runs: dict[str, Any]
    evaluations: dict[str, dict[str, str]]
    shots: Sequence[int] = ()
    module: str = "tasks"
    baseline: str | None = None
    num_examples: int | None = None
    metric: str | None = None

    def __post_init__(self):
        if not isinstance(self.runs, dict) or not self.runs:
            raise UserError("runs={} is empty; give each run a label and the path of its directory")
        if not isinstance(self.evaluations, dict) or not self.evaluations:
            raise UserError("evaluations={} is empty; name a group with the labels and names of its tasks")
        require_name(module=self.module)
        if self.num_examples is not None:
            require_positive(num_examples=self.num_examples)
        for k in self.shots:
            require_count(shots=k)
        if len(set(self.shots)) < len(self.shots):
            raise UserError(f"shots={','.join(map(str, self.shots))} names a number twice; name each once")
        self._check_shots()
        self.run_settings()

    def _check_shots(self) -> None:
        names = [evaluation.name for evaluation in self.list_evaluations()]
        with_shots = [name for name in names if SHOTS in name]
        if with_shots and not self.shots:
            raise UserError(f"evaluation {with_shots[0]!r} needs the numbers of {SHOTS}; give such as --shots=0,2,4")
        if self.shots and not with_shots:
            raise UserError(
                f"shots={','.join(map(str, self.shots))} needs {SHOTS} in the name of an evaluation, such as "
                f"explained_quiz_answer_{SHOTS}_shot_eval_test"
            )

    def run_settings(self) -> list[RunSetting]:
        """Returns the runs in their order."""
        found = []
        for label, given in self.runs.items():
            fields = {"path": given} if isinstance(given, str) else given
            if not isinstance(fields, Mapping) or not fields.get("path"):
                raise UserError(f"run {label!r} must be the path of a run, or a dictionary with its 'path'")
            for name in fields:
                if name not in RUN_FIELDS:
                    raise UserError(f"run {label!r} has an unknown field {name!r}{nearest(name, RUN_FIELDS)}")
            found.append(RunSetting(label, fields["path"], fields.get("step"), fields.get("baseline") or self.baseline))
        return found

    def list_evaluations(self) -> list[Evaluation]:
        """Returns the evaluations in their order."""
        found = []
        for group, named in self.evaluations.items():
            if not isinstance(named, Mapping) or not named:
                raise UserError(f"group {group!r} must map labels to the names of evaluation tasks")
            for label, name in named.items():
                require_name(**{f"evaluation {label!r}": name})
                module, _, task = name.rpartition(":")
                found.append(Evaluation(label, group, task, module or self.module))
        return found


def default_labels(names: Sequence[str]) -> dict[str, str]:
    """Maps labels to evaluations, by what their names specify: "tiny medium test"; whole names where two are alike."""
    labels = {}
    for name in names:
        if name in labels:
            raise UserError(f"evaluation {name!r} is given twice; name each once")
        _, _, task = name.rpartition(":")
        variant, split = parse_evaluation(task.replace(f"_{SHOTS}_shot", ""))
        config, style = config_and_style(variant) if variant else ("", "")
        label = " ".join(part for part in (config, style, split) if part).replace("_", " ")
        labels[name] = label
    unique = len(set(labels.values())) == len(labels)
    return {label if unique else name: name for name, label in labels.items()}
