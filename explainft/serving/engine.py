"""The thread that owns the device: a bounded queue, rows that join and leave between steps, and what each step gave.

Other threads call `submit` and `cancel` alone. What an output depends on is its prompt, its seed and its index: never
the requests beside it.
"""

import dataclasses
import itertools
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.generation.continuous import Tokens
from explainft.serving.batch import Batch, Row
from explainft.serving.metrics import Metrics
from explainft.serving.output_text import OutputText, TokenLogprob

MAX_ENCODED = 4  # prompts between two steps: in a burst, rows that run wait for no more


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the outputs of a request are decoded. `logprobs`: the number of candidates of each token; None: none."""

    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    streams: bool = False


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The token ids of an input, and how many tokens its outputs may have."""

    ids: Sequence[int]
    max_tokens: int


class Delta(NamedTuple):
    """What an output has gained. With a `finish_reason`, stop or length, it is complete."""

    output: int  # its place among those of the request
    text: str
    tokens: Sequence[TokenLogprob]
    num_tokens: int  # so far
    finish_reason: str | None


class Failed(NamedTuple):
    """The device failed, and the request with it."""


Event = Delta | Failed


class QueueFull(Exception):
    """More outputs wait than the queue may hold."""


class Job:
    """One request: `num_samples` outputs of each prompt. `deliver` is called from the engine's thread."""

    def __init__(
        self, prompts: Sequence[Prompt], num_samples: int, settings: Settings, deliver: Callable[[Event], None]
    ):
        self.settings, self.deliver = settings, deliver
        self.cancelled = False
        self.begin = time.monotonic()
        pairs = [(prompt, index) for prompt in prompts for index in range(num_samples)]
        self.outputs = [_Output(self, place, *pair) for place, pair in enumerate(pairs)]


class _Output:
    """One output of a job, queued or running."""

    def __init__(self, job: Job, place: int, prompt: Prompt, index: int):
        self.job, self.place, self.prompt, self.index = job, place, prompt, index
        self.text: Any = None  # an OutputText while it runs

    def row(self) -> Row["_Output"]:
        settings = self.job.settings
        sampling = settings.temperature, settings.top_p, settings.seed, self.index
        return Row(self, len(self.prompt.ids), *sampling)


class Engine:
    """Decodes the outputs of jobs, in the order in which they came, up to the batch's number of rows at once."""

    def __init__(self, batch: Batch[Any], vocabulary: Vocabulary, max_queued: int, metrics: Metrics):
        self.metrics = metrics
        self.max_queued = max_queued
        self._batch, self._vocabulary = batch, vocabulary
        self._queue: deque[_Output] = deque()
        self._changed = threading.Condition()  # guards the queue and `_closing`
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after what is queued and what runs."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Queues a job. Raises QueueFull where its outputs are more than the queue and the free rows hold."""
        with self._changed:
            if len(self._queue) + len(job.outputs) > self.max_queued + self._batch.free:
                raise QueueFull
            self._queue.extend(job.outputs)
            self.metrics.waiting = len(self._queue)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Frees what the job holds before the next step. It does nothing to a job that is complete."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def _run(self) -> None:
        while self._wait():
            try:
                self._admit()
                if self._batch.rows:
                    self._step()
            except Exception:
                # A device that is out of memory may serve the next request.
                print(f"explainft: error: a decode step failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                self._fail_all()

    def _wait(self) -> bool:
        """Waits for work, drops what was cancelled, and returns False where the thread is to end."""
        with self._changed:
            while True:
                for row in self._batch.rows:
                    if row.owner.job.cancelled:
                        self._batch.remove(row)
                if any(output.job.cancelled for output in self._queue):
                    self._queue = deque(output for output in self._queue if not output.job.cancelled)
                self._count()
                if self._queue or self._batch.rows:
                    return True
                if self._closing:
                    return False
                self._changed.wait()

    def _admit(self) -> None:
        with self._changed:
            admitted = list(itertools.islice(self._queue, self._batch.free))
        # The samples of a prompt share its encoding.
        begins = [i for i, output in enumerate(admitted) if i == 0 or output.prompt is not admitted[i - 1].prompt]
        admitted = admitted[: begins[MAX_ENCODED]] if len(begins) > MAX_ENCODED else admitted
        additions, prompt, prefix = [], None, None
        for output in admitted:
            if output.prompt is not prompt:
                prompt, prefix = output.prompt, self._batch.encode(output.prompt.ids)
            settings = output.job.settings
            logprobs = settings.logprobs is not None
            output.text = OutputText(self._vocabulary, settings.stop, settings.streams, logprobs)
            additions.append((output.row(), prefix))
        self._batch.add(additions)
        with self._changed:
            for _ in admitted:  # only now: a failure above must find them
                self._queue.popleft()
            self._count()

    def _step(self) -> None:
        wanted = any(row.owner.job.settings.logprobs is not None for row in self._batch.rows)
        placed, tokens = self._batch.step(wanted)
        self.metrics.steps += 1
        self.metrics.generated_tokens += len(placed)
        for place, row in placed:
            self._advance(row, place, tokens)

    def _advance(self, row: Row[_Output], place: int, tokens: Tokens) -> None:
        """Gives an output its token, delivers what that made certain, and frees the row at the end."""
        output, settings = row.owner, row.owner.job.settings
        candidates: list[tuple[int, float]] = []
        if settings.logprobs:
            ids, values = tokens.candidate_RC[place].tolist(), tokens.candidate_logprob_RC[place].tolist()
            candidates = list(zip(ids, values, strict=True))[: settings.logprobs]
        output.text.append(row.token, float(tokens.logprob_R[place]), candidates)
        if row.position == 1:
            self.metrics.first_token_seconds.add(time.monotonic() - output.job.begin)
        stopped = row.token == EOS_ID or output.text.stopped
        reason = "stop" if stopped else "length" if row.position >= output.prompt.max_tokens else None
        if reason is not None:
            output.text.end()
            self._batch.remove(row)
        if reason is not None or settings.streams:
            text, taken = output.text.take(), output.text.take_tokens(reason is not None)
            if text or taken or reason is not None:
                output.job.deliver(Delta(output.place, text, taken, row.position, reason))

    def _fail_all(self) -> None:
        with self._changed:
            jobs = {id(output.job): output.job for output in [*self._queue, *(row.owner for row in self._batch.rows)]}
            self._queue.clear()
            self._batch.clear()
        for job in jobs.values():
            job.deliver(Failed())

    def _count(self) -> None:
        self.metrics.waiting, self.metrics.running = len(self._queue), len(self._batch.rows)
