"""The rows of the matrix: checkpoints, each with the one that it started from."""

import ast
import dataclasses
import sys
from pathlib import Path
from typing import Any

from explainft.checkpoints import convert
from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.evaluation.loading import own_vocabulary, weights_digest
from explainft.training.run_directory import read_macros
from explainft.transfer.formats import OutputFormat, formats_of_run
from explainft.transfer.settings import RunSetting


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint that is evaluated.

    `baseline`: the label of the source that it is compared with, None for none. `step`: the one that was asked for, an
    argument of open_weights.
    """

    label: str
    path: str
    step: int | str | None
    weights: Weights = dataclasses.field(repr=False)
    digest: str
    baseline: str | None = None
    added: bool = False  # to compare others with, and not among the runs that were given

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata of a run; empty for a checkpoint of any other format."""
        return dict(self.weights.meta)

    @property
    def vocabulary_file(self) -> str | None:
        """The vocabulary of a run that was trained on another one than its task's."""
        return own_vocabulary(self.weights)

    @property
    def formats(self) -> list[OutputFormat]:
        """The formats of the outputs that it was trained to write; none where they are not known."""
        return formats_of_run(self.meta)

    @property
    def target_length(self) -> int:
        """The number of tokens of the longest target in training; 0 where it is not known."""
        return self.meta.get("lengths", {}).get("targets", 0)

    def training_tasks(self, data_dir: str | None) -> list[str]:
        """Returns the tasks that it was trained on; of a mixture whose module cannot be imported, its name."""
        if not self.meta:
            return []
        task, module = self.meta["task"], self.meta["module"]
        try:
            return token_cache.task_names(task, module, data_dir)
        except UserError:
            return [task]


def open_source(label: str, path: str, step: int | str | None = None) -> Source:
    """Opens a checkpoint. Raises UserError where there is none."""
    weights = convert.open_weights(path, step)
    return Source(label, path, step, weights, weights_digest(weights))


def open_sources(settings: list[RunSetting]) -> list[Source]:
    """Opens the runs, and after them the checkpoints that they are compared with and that are not among them."""
    rows = {setting.label: open_source(setting.label, setting.path, setting.step) for setting in settings}
    for setting in settings:
        source = rows[setting.label]
        opened = rows.get(setting.baseline or "") or _open_baseline(source, setting.baseline)
        if opened is None:
            continue
        baseline = next((row for row in rows.values() if row.digest == opened.digest), opened)
        if baseline.digest == source.digest:  # it is what the others are compared with
            continue
        if baseline.label in rows and rows[baseline.label].digest != baseline.digest:
            baseline = dataclasses.replace(baseline, label=f"{baseline.label} ({baseline.path})")
        rows.setdefault(baseline.label, dataclasses.replace(baseline, added=True))
        rows[source.label] = dataclasses.replace(source, baseline=baseline.label)
    return list(rows.values())


def _open_baseline(source: Source, given: str | None) -> Source | None:
    """Opens the checkpoint that a run is compared with: the given one, else what it started from; None without one.

    A start that cannot be read any more is reported on standard error.
    """
    path = given or initial_checkpoint(source.path)
    if path is None:
        return None
    try:
        return open_source(label_of(path), path)
    except UserError as e:
        if given is not None:
            raise
        fix = "give --baseline to compare it with another"
        print(f"note: {source.label} started from a checkpoint that cannot be read: {e.line}; {fix}", file=sys.stderr)
        return None


def initial_checkpoint(path: str) -> str | None:
    """Returns the path of the checkpoint that a run started from; None where its config.gin names none."""
    config = _run_directory(path) / "config.gin"
    if not config.is_file():
        return None
    return ast.literal_eval(read_macros(config.read_text(encoding="utf-8")).get("INITIAL_CHECKPOINT_PATH", "None"))


def _run_directory(path: str) -> Path:
    """Returns the directory of a run, for its path or that of one of its checkpoints."""
    given = Path(path)
    return given.parents[1] if given.parent.name == "checkpoints" else given


def label_of(path: str) -> str:
    """Returns the name of a run's directory, or of a checkpoint's."""
    return _run_directory(path).resolve().name


def label_runs(paths: list[str]) -> dict[str, str]:
    """Maps labels to paths: the names of their directories, and whole paths where two have one name."""
    names = [label_of(path) for path in paths]
    return {path if names.count(name) > 1 else name: path for name, path in zip(names, paths, strict=True)}


def takes_step(path: str) -> bool:
    """Returns whether --step chooses among checkpoints of this path: not where it is one checkpoint."""
    return (Path(path) / "checkpoints").is_dir()
