"""Limits on the requests and the tokens of a minute, which all requests share."""

import asyncio
from collections import deque
from collections.abc import Callable

WINDOW = 60.0  # seconds


class RateLimiter:
    """Lets requests start so that no window of 60 seconds has more of them, or of their tokens, than allowed.

    None: no limit. Requests start in the order in which they ask. `pause` holds all of them back.
    """

    def __init__(self, requests: int | None, tokens: int | None, clock: Callable[[], float], window: float = WINDOW):
        self._requests, self._tokens, self._clock, self._window = requests, tokens, clock, window
        self._started: deque[list[float]] = deque()  # [time, tokens], the oldest first
        self._paused_until = 0.0
        self._lock = asyncio.Lock()

    async def start(self, tokens: int) -> list[float]:
        """Returns when a request of that many tokens may start: an entry for `correct`."""
        async with self._lock:
            while (wait := self._wait(tokens)) > 0:
                await asyncio.sleep(wait)
            entry = [self._clock(), float(tokens)]
            if self._requests is not None or self._tokens is not None:
                self._started.append(entry)
            return entry

    def correct(self, entry: list[float], tokens: int) -> None:
        """Replaces the estimated tokens of a request by those that the server counted."""
        entry[1] = float(tokens)

    def pause(self, seconds: float) -> None:
        """Starts no request for that long: the server asked to wait."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        while self._started and self._started[0][0] <= now - self._window:
            self._started.popleft()
        waits = [self._paused_until - now]
        if self._requests is not None and len(self._started) >= self._requests:
            waits.append(self._until_leaves(len(self._started) - self._requests, now))
        if self._tokens is not None:
            surplus = sum(entry[1] for entry in self._started) + tokens - self._tokens
            for place, entry in enumerate(self._started):
                if surplus <= 0:
                    break
                surplus -= entry[1]
                waits.append(self._until_leaves(place, now))
        return max(waits)

    def _until_leaves(self, place: int, now: float) -> float:
        """Returns the seconds until the request at that place is outside of the window."""
        return self._started[place][0] + self._window - now + 1e-3
