"""Trials in parallel: each in a thread that is pinned to cores of its own, with its commands as processes.

Two runs on one core each take less time than both on two cores.
"""

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explainft.core.atomic_files import refuse_unwritable
from explainft.core.errors import UserError

EXPLAINFT = (sys.executable, "-P", "-m", "explainft.cli.main")  # -P: as the installed command looks for modules


class Stopped(Exception):
    """A signal stopped the runner: the trial is incomplete, and the same command resumes it."""


class Runner:
    """Runs trials, `jobs` at a time, each pinned to its own cores."""

    def __init__(self, jobs: int, data_flags: Sequence[str] = ()):
        self._jobs = jobs
        self._data_flags = data_flags
        self._running: set[int] = set()  # process numbers
        self._stopping: int | None = None  # the signal

    def run(self, trials: Mapping[str, Callable[[], str]], bar: tqdm | None = None) -> list[str]:
        """Calls a function for each trial, which returns a line about it, and prints the lines.

        `bar` is the caller's own progress bar (None: one that counts the trials).
        Returns the names of the trials that failed: their functions raised. After a signal it lets the commands save,
        and exits with 128 + n.
        """
        failed = []
        counted = tqdm(total=len(trials), unit=" trials", disable=None) if bar is None else contextlib.nullcontext(bar)
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            with (
                ThreadPoolExecutor(self._jobs, initializer=pin_cores, initargs=(partition_cores(self._jobs),)) as pool,
                counted as shown,
            ):
                futures = {pool.submit(self._describe, trial): name for name, trial in trials.items()}
                for future in as_completed(futures):
                    line, ok = future.result()
                    if self._stopping:
                        continue
                    if bar is None:
                        shown.update()
                    shown.write(f"{futures[future]}: {line}", file=sys.stdout)
                    sys.stdout.flush()
                    if not ok:
                        failed.append(futures[future])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._stopping:
            print("stopped; rerun the same command to resume", file=sys.stderr)
            sys.exit(128 + self._stopping)
        return failed

    def run_command(self, command: Sequence[str], log: Path) -> int:
        """Runs a command of `explainft`, whose output goes to `log`; returns its peak memory in bytes.

        Raises UserError where it failed, and Stopped after a signal.
        """
        if self._stopping:
            raise Stopped
        with refuse_unwritable(log), open(log, "a", encoding="utf-8") as file:
            file.write(shlex.join(["explainft", *command]) + "\n")
            file.flush()
            process = subprocess.Popen(
                [*EXPLAINFT, *command, *self._data_flags],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is passed on by this process, once
            )
            self._running.add(process.pid)
            if self._stopping:  # the signal may have come before the number was known
                self._pass_on(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            self._running.discard(process.pid)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"{command[0]} ended with {process.returncode}; see {log}")
        return usage.ru_maxrss * 1024

    def _describe(self, trial: Callable[[], str]) -> tuple[str, bool]:
        """Returns a line about a trial, and whether it succeeded."""
        try:
            return trial(), True
        except Stopped:
            return "stopped", True
        except UserError as e:
            return e.line, False
        except Exception as e:  # one trial must not end the others
            traceback.print_exc()
            return f"{type(e).__name__}: {e}", False

    def _stop(self, number: int, _: Any) -> None:
        self._stopping = number
        for pid in list(self._running):
            self._pass_on(pid)

    def _pass_on(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)


def partition_cores(jobs: int) -> "queue.SimpleQueue[set[int]]":
    """Distributes the cores over the jobs; with more jobs than cores, several jobs use one core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    core_sets: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for job in range(jobs):
        core_sets.put(set(cores[job::jobs]) or set(cores[job % len(cores) : job % len(cores) + 1] if cores else ()))
    return core_sets


def pin_cores(core_sets: "queue.SimpleQueue[set[int]]") -> None:
    """Pins this thread, and the processes that it starts, to one set of cores."""
    if cores := core_sets.get():
        os.sched_setaffinity(0, cores)


def build_data(configs: Sequence[str], flags: Sequence[str] = ()) -> None:
    """Builds configs of explained_listops that are not there yet. Raises UserError where one cannot be built."""
    for config in configs:
        build = [*EXPLAINFT, "data", "build", "--config", config, *flags]
        if subprocess.run(build, stdout=subprocess.DEVNULL).returncode:
            raise UserError(f"the dataset {config!r} cannot be built; fix the error above")
