"""What the server counts, in Prometheus' text format (version 0.0.4)."""

import bisect
from collections import Counter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """Counts numbers in buckets with these upper bounds."""

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """Each number is written by one thread: requests by that of HTTP, all else by the engine's."""

    def __init__(self):
        self.requests: Counter[tuple[str, int]] = Counter()  # by path and status
        self.prompt_tokens = 0
        self.cancelled = 0  # requests whose client left
        self.running = 0
        self.waiting = 0
        self.steps = 0
        self.generated_tokens = 0
        self.first_token_seconds = Histogram(SECONDS)

    def text(self) -> str:
        """Returns all of them for a scrape."""
        lines = ["# HELP explainft_requests_total Answered requests.", "# TYPE explainft_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'explainft_requests_total{{path="{path}",status="{status}"}} {count}')
        for name, kind, help, value in (
            ("requests_cancelled_total", "counter", "Requests whose client left.", self.cancelled),
            ("prompt_tokens_total", "counter", "Tokens of prompts.", self.prompt_tokens),
            ("generated_tokens_total", "counter", "Generated tokens.", self.generated_tokens),
            ("decode_steps_total", "counter", "Steps of the batch.", self.steps),
            ("outputs_running", "gauge", "Outputs that are being decoded.", self.running),
            ("outputs_waiting", "gauge", "Outputs in the queue.", self.waiting),
        ):
            full = f"explainft_{name}"
            lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "\n".join([*lines, *self._first_token_lines()]) + "\n"

    def _first_token_lines(self) -> list[str]:
        name, histogram = "explainft_time_to_first_token_seconds", self.first_token_seconds
        lines = [f"# HELP {name} From a request to the first token of an output.", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip([*histogram.bounds, "+Inf"], histogram.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {histogram.sum}", f"{name}_count {total}"]
