"""Runs that are killed again and again, and what is left of them."""

import collections
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from explainft.checkpoints.orbax_manager import ITEMS
from explainft.model.parameters import named_leaves

ROOT = Path(__file__).parent.parent.parent
PHASES = ("starting", "training", "saving", "evaluating")


class Victim:
    """A run in a process of its own, with a `terminal` where one is given; see victim.py."""

    def __init__(self, base: Path, name: str, data_dir: str, terminal: int | None = None, **changes: Any):
        self.folder = base / name
        self._diary = base / f"{name}.diary"
        self._diary.write_text("")
        self._errors = open(base / f"{name}.err", "w+")  # noqa: SIM115  closed in wait
        settings = {
            "folder": str(self.folder),
            "data": data_dir,
            "diary": str(self._diary),
            "compiled": str(base / "compiled"),
            "terminal": terminal is not None,
            "changes": changes,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.survival.victim", json.dumps(settings)],
            cwd=ROOT,
            stdin=terminal,
            stdout=terminal,
            stderr=self._errors if terminal is None else terminal,
            env={**os.environ, "EXPLAINFT_CACHE_DIR": os.environ.get("EXPLAINFT_CACHE_DIR", str(base / "cache"))},
        )

    def diary(self) -> list[str]:
        return [line for line in self._diary.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def phase(self) -> str:
        known = [line.strip() for line in self.diary()]
        return next((line for line in reversed(known) if line in PHASES), "starting")

    def resumed_at(self) -> int | None:
        found = [line.removeprefix("resumed at ") for line in self.diary() if line.startswith("resumed at ")]
        return int(found[0]) if found else None

    def runs_until(self, phase: str) -> bool:
        """Whether it came to this phase; False where it ended before."""
        while phase + "\n" not in self.diary():
            if self.process.poll() is not None:
                return False
            time.sleep(0.002)
        return True

    def lives_for(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit status and standard error, after a signal where one is given."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait()
        with self._errors as errors:
            errors.seek(0)
            return status, errors.read()


def newest_complete(folder: Path) -> int:
    """By the names alone: a checkpoint has its name when it is complete. 0 where there is none."""
    below = folder / "checkpoints"
    names = [path.name for path in below.iterdir()] if below.is_dir() else []
    return max([int(name.removeprefix("checkpoint_")) for name in names if re.fullmatch(r"checkpoint_\d+", name)] + [0])


def result(folder: Path) -> dict[str, Any]:
    """All that a run has come to, but for the times: arrays, progress, metrics and predictions."""
    step = newest_complete(folder)
    with ocp.CheckpointManager(
        (folder / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(step_prefix="checkpoint")
    ) as manager:
        restore = ocp.args.StandardRestore
        saved = manager.restore(
            step, args=ocp.args.Composite(params=restore(), opt_state=restore(), meta=ocp.args.JsonRestore())
        )
    found: dict[str, Any] = {"step": step}
    for item in ITEMS:
        for name, array in named_leaves(saved[item]).items():
            found[f"{item}/{name}"] = np.asarray(array).tobytes()
    found["progress"] = _timeless(saved["meta"]["progress"])
    found["metrics"] = [_timeless(json.loads(row)) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    for path in sorted((folder / "inference_eval").iterdir()):
        found[path.name] = path.read_bytes()
    return found


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "second" not in name}


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


@dataclasses.dataclass
class Counts:
    kills: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    resumes: int = 0
    ends: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        phases = ", ".join(f"{self.kills[phase]} {phase}" for phase in PHASES)
        return (
            f"{self.kills.total()} kills: {phases}\n"
            f"{self.resumes} resumes from the newest complete checkpoint\n"
            f"{self.ends} ends bitwise equal to the undisturbed run\n"
            f"{len(self.wrong)} failures" + "".join(f"\n  {line}" for line in self.wrong)
        )


def kill_at_random(base: Path, data_dir: str, kills: int, seed: int = 0) -> Iterator[Counts]:
    """Kills runs at random moments until there were so many kills and the last run has ended; yields after each."""
    undisturbed, seconds = _undisturbed(base, data_dir)
    rng = random.Random(seed)
    counts, run, start, newest = Counts(), 0, 0, 0
    while counts.kills.total() < kills or start:
        victim = Victim(base, f"run_{run}", data_dir)
        phase = None
        if counts.kills.total() < kills and _lives_to_a_random_moment(victim, seconds, rng):
            phase = victim.phase()
        status, errors = victim.end(None if phase is None else signal.SIGKILL)
        killed = status == -signal.SIGKILL
        step = victim.resumed_at()
        what = f"run_{run}, start {start}"
        if not killed and status != 0:
            counts.wrong.append(f"{what}: exit status {status}: {errors[-500:]}")
            return
        if "corrupt" in errors or step not in (newest, None):
            counts.wrong.append(f"{what}: resumed at {step}, newest is {newest}: {errors[-500:]}")
        elif step:
            counts.resumes += 1
        if killed:
            assert phase is not None
            counts.kills[phase] += 1
            start, newest = start + 1, newest_complete(victim.folder)
        else:
            differing = differences(result(victim.folder), undisturbed)
            counts.ends += not differing
            if differing:
                counts.wrong.append(f"{what}: it ends with other {differing[:3]}")
            run, start, newest = run + 1, 0, 0
        yield counts


def _undisturbed(base: Path, data_dir: str) -> tuple[dict[str, Any], dict[str, float]]:
    """What the undisturbed run comes to, and how long it takes to start and to run with everything compiled."""
    results = []
    seconds = {}
    for name in ("undisturbed", "undisturbed_again"):
        began = time.monotonic()
        victim = Victim(base, name, data_dir)
        victim.runs_until("training")
        seconds["starting"] = time.monotonic() - began
        status, errors = victim.end()
        seconds["running"] = time.monotonic() - began - seconds["starting"]
        assert status == 0, errors
        results.append(result(victim.folder))
    assert not differences(*results), "two undisturbed runs differ"
    return results[0], seconds


def _lives_to_a_random_moment(victim: Victim, seconds: dict[str, float], rng: random.Random) -> bool:
    """Waits; False where the run ended before. Each moment of the run is as likely as any other, starting is rarer."""
    if rng.random() < 0.1:
        return victim.lives_for(rng.uniform(0, seconds["starting"]))
    return victim.runs_until("training") and victim.lives_for(rng.uniform(0, 0.6 * seconds["running"]))
