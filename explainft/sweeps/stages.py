"""A stage of a pipeline: a command of explainft, the stages whose outputs it reads, and the record of its end.

A record lies beside the stage's output, as <stage>.stage.json. It is written when the stage starts, with the hash of
its settings and the ids of the stages that it reads, and completed when it ends, with an id of its own. So a stage is
complete only for the very outputs that it read.
"""

import dataclasses
import hashlib
import json
import re
import shlex
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError

PATH_FLAGS = ("--output", "--report")  # whose values are files and directories of the trial
OUTPUT_FLAGS = ("--output", "--name", "--report")  # of which the first that a command has is its output
IN_BRACES = re.compile(r"\{(\w+)\}")
STARTED, COMPLETE, STALE = "started", "complete", "stale"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command whose words still have the names of other stages in braces, and relative paths of outputs.

    `trains` is whether it trains a run, in a directory of the stage's name. `settings` are what its hash depends on.
    """

    name: str
    directory: Path  # of its trial
    words: tuple[str, ...]
    settings: tuple[str, ...]
    trains: bool = False
    parameters: int | None = None
    steps: int | None = None
    flops: int | None = None  # of its train steps; None: unknown, or it trains nothing

    @property
    def reads(self) -> tuple[str, ...]:
        """The names in braces, each once."""
        return tuple(dict.fromkeys(name for word in self.words for name in IN_BRACES.findall(word)))

    @property
    def output(self) -> str | None:
        """What other stages read: the run's directory, the value of --output, or a dataset's name."""
        if self.trains:
            return str(self.directory / self.name)
        words = self._placed_words()
        return next((value for flag in OUTPUT_FLAGS if (value := flag_value(words, flag)) is not None), None)

    @property
    def paths(self) -> list[Path]:
        """The files and directories that the stage writes in its trial's directory."""
        if self.trains:
            return [self.directory / self.name]
        words = self._placed_words()
        return [Path(value) for flag in PATH_FLAGS if (value := flag_value(words, flag)) is not None]

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def record_file(self) -> Path:
        return self.directory / f"{self.name}.stage.json"

    def command(self, stages: Mapping[str, "Stage"]) -> list[str]:
        """Returns the arguments of `explainft`, with the outputs of other stages filled in."""

        def fill(match: re.Match[str]) -> str:
            stage = stages.get(match[1])
            return match[0] if stage is None else str(stage.output)

        return [IN_BRACES.sub(fill, word) for word in self._placed_words()]

    def line(self, stages: Mapping[str, "Stage"]) -> str:
        """Returns the command as a shell takes it."""
        return shlex.join(["explainft", *self.command(stages)])

    def _placed_words(self) -> list[str]:
        """Returns the words with the paths of outputs in the trial's directory."""
        words = list(self.words)
        for i, word in enumerate(words):
            flag, equals, value = word.partition("=")
            if flag in PATH_FLAGS and equals:
                words[i] = f"{flag}={self.directory / value}"
            elif i and words[i - 1] in PATH_FLAGS:
                words[i] = str(self.directory / word)
        return words


def flag_value(words: Sequence[str], flag: str) -> str | None:
    """Returns the value of `--flag VALUE` or `--flag=VALUE`; None where the words have no such flag."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


class StageRecords:
    """The hashes and records of the stages of one trial."""

    def __init__(self, stages: Sequence[Stage]):
        self.stages = {stage.name: stage for stage in stages}
        self.hashes: dict[str, str] = {}
        for stage in stages:
            content = [*stage.settings, *(f"{name} {self.hashes[name]}" for name in self._read_by(stage))]
            self.hashes[stage.name] = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]

    @property
    def result_hash(self) -> str:
        """A hash of all stages."""
        return hashlib.sha256("\n".join(self.hashes.values()).encode()).hexdigest()[:16]

    def state(self, stage: Stage) -> str | None:
        """Returns COMPLETE, STARTED, STALE where other settings or inputs made what is there, or None."""
        record = read_record(stage)
        if record is None:
            return STALE if any(path.exists() for path in stage.paths) else None
        if record["hash"] != self.hashes[stage.name] or record["reads"] != self._read_ids(stage):
            return STALE
        if "id" in record and all(path.exists() for path in stage.paths):
            return COMPLETE
        return STARTED

    def start(self, stage: Stage) -> None:
        """Records that the stage's outputs are of its present settings and inputs."""
        self._write(stage, {})

    def complete(self, stage: Stage, more: Mapping[str, Any]) -> None:
        """Records that the stage ended, with what it reported."""
        self._write(stage, {"id": uuid.uuid4().hex[:16], **more})

    def _write(self, stage: Stage, more: Mapping[str, Any]) -> None:
        record = {"hash": self.hashes[stage.name], "reads": self._read_ids(stage), **more}
        with refuse_unwritable(stage.record_file):
            stage.directory.mkdir(parents=True, exist_ok=True)
            with atomic_write(stage.record_file) as scratch:
                scratch.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _read_by(self, stage: Stage) -> list[str]:
        return [name for name in stage.reads if name in self.stages]

    def _read_ids(self, stage: Stage) -> dict[str, str | None]:
        records = {name: read_record(self.stages[name]) for name in self._read_by(stage)}
        return {name: (record or {}).get("id") for name, record in records.items()}


def read_record(stage: Stage) -> dict[str, Any] | None:
    """Returns a stage's record; None where there is none. Raises UserError for a corrupt one."""
    try:
        record = json.loads(stage.record_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{stage.record_file} is corrupt ({e}); delete it and the output of {stage.name}") from e
    if not isinstance(record, dict) or not {"hash", "reads"} <= record.keys():
        raise UserError(f"{stage.record_file} is not the record of a stage; delete it and the output of {stage.name}")
    return record


def delete_outputs(stage: Stage) -> None:
    """Deletes what a stage wrote, its record last: a deletion that was stopped leaves the stage stale."""
    for path in stage.paths:
        with refuse_unwritable(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    stage.record_file.unlink(missing_ok=True)
