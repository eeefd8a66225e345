"""What a run reports while it trains: a progress bar on a terminal, lines of a log elsewhere."""

import contextlib
import errno
import sys
import time
from typing import TextIO

from tqdm import tqdm


class Console(contextlib.AbstractContextManager):
    """Reports a run. Of several processes one `writes`. A terminal that was closed does not end the run."""

    def __init__(self, name: str, *, writes: bool):
        self._name = name
        self._writes = writes
        self._is_terminal = sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._end_step = 0
        self._started = 0.0
        self._first: tuple[int, float] | None = None  # the first step, and when it ended

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, step: int, end_step: int) -> None:
        """Begins to count steps."""
        self._started = time.monotonic()
        self._end_step = end_step
        self._bar = tqdm(
            total=end_step, initial=step, desc=self._name, unit=" steps", disable=None if self._writes else True
        )

    def report_phase(self, text: str) -> None:
        """Prints a line to the log; a terminal shows none."""
        if not self._is_terminal:
            self.report(text)

    def report(self, text: str) -> None:
        """Prints a line to standard output."""
        if self._writes:
            self._print(f"{self._name}: {text}", sys.stdout)

    def warn(self, text: str) -> None:
        """Prints a line to standard error, on each of several processes."""
        self._print(text, sys.stderr)

    def count_step(self, step: int) -> None:
        """Advances the bar by a step that ended; reports the time of the first."""
        assert self._bar is not None
        self._bar.update()
        if self._first is None:
            self._first = step, time.monotonic()
            self.report_phase(f"the first step took {format_seconds(self._first[1] - self._started)}")

    def report_metrics(self, step: int, text: str) -> None:
        """Shows the metrics of a step beside the bar, or prints them with the time that is left."""
        assert self._bar is not None
        self._bar.set_postfix_str(text)
        self.report_phase(f"step {step:,} of {self._end_step:,}: {text}{self._time_left(step)}")

    def report_score(self, step: int, text: str) -> None:
        """Shows an evaluation's score before the bar, or prints it."""
        assert self._bar is not None
        self._bar.set_description_str(f"{self._name}, {text}")
        self.report_phase(f"step {step:,} of {self._end_step:,}: {text}")

    def _time_left(self, step: int) -> str:
        """Estimates by the mean time of all steps but the first, which compiles; evaluation and saving count."""
        if self._first is None or step <= self._first[0] or step >= self._end_step:
            return ""
        seconds_per_step = (time.monotonic() - self._first[1]) / (step - self._first[0])
        return f", {format_seconds(seconds_per_step * (self._end_step - step))} left"

    def _print(self, line: str, file: TextIO) -> None:
        try:
            if self._bar is None or self._bar.disable:
                print(line, file=file, flush=True)
            else:
                self._bar.write(line, file=file)
        except OSError as e:
            if e.errno != errno.EIO:  # a closed terminal sends SIGHUP too, and the run still has to save
                raise


def format_seconds(seconds: float) -> str:
    """Formats a duration as 90 s, 45 min or 3.5 h: two digits where a unit has more than one."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:,.1f} h"
