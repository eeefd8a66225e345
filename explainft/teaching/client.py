"""A teacher behind an OpenAI-compatible server, through the official client.

The retry budget: each request is sent once and, after faults of any kind, at most `max_retries` times more. The
client's own retries are off. Before a retry comes the wait that the server asked for, or else 1, 2, 4 ... seconds, up
to a minute, each shortened at random by up to a half. A request that used up its budget has no answer, and the next run
sends it.
"""

import asyncio
import dataclasses
import datetime
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from explainft.core.errors import UserError
from explainft.teaching.journal import AuditLog
from explainft.teaching.limits import WINDOW, RateLimiter
from explainft.teaching.prices import estimated_tokens
from explainft.teaching.requests import CUT, Answer, Request
from explainft.teaching.responses import CONNECTION, FATAL, REFUSED, TIMEOUT, Fault, read_answer, status_fault

MAX_WAIT = 3600.0  # seconds; a server that asks for more is asked another day
MAX_FAILED_IN_A_ROW = 20  # requests without an answer, after which the next ones are not sent
REDACTED = "[API key]"
MIN_SECRET = 8  # characters; servers without keys take words such as EMPTY

Receive = Callable[[Request, Answer], None]


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where a server is and how it is asked. `base_url` None: OpenAI's. `timeout`: seconds of one request."""

    api_key: str
    base_url: str | None = None
    timeout: float = 120.0
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    window: float = WINDOW

    def redact(self, text: str) -> str:
        """Returns the text without the API key."""
        return text.replace(self.api_key, REDACTED) if len(self.api_key) >= MIN_SECRET else text


@dataclasses.dataclass(frozen=True)
class RetryBudget:
    """How often a request is sent again, and how long the waits are that no server asked for."""

    max_retries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait(self, attempt: int) -> float:
        """Returns the seconds before the retry after an attempt, counted from 1."""
        return min(self.longest_wait, self.first_wait * 2 ** (attempt - 1)) * random.uniform(0.5, 1)


class OpenAITeacher:
    """Sends requests concurrently. `faults` counts what came back without a usable answer, by kind."""

    journaled = True

    def __init__(self, connection: Connection, budget: RetryBudget, audit: AuditLog):
        self.faults: Counter[str] = Counter()
        self._connection, self._budget, self._audit = connection, budget, audit
        self._failed_in_a_row = 0

    def ask(self, requests: Sequence[Request], receive: Receive) -> None:
        """Calls `receive` with each answer as it comes. Raises UserError where all requests fail."""
        limit = self._connection.tokens_per_minute
        largest = max(map(estimated_tokens, requests))
        if limit is not None and largest > limit:
            raise UserError(
                f"--tokens_per_minute={limit} must be at least {largest}, the tokens of the longest request"
            )
        try:
            asyncio.run(self._ask_all(requests, receive))
        finally:
            self._audit.close()

    async def _ask_all(self, requests: Sequence[Request], receive: Receive) -> None:
        from openai import AsyncOpenAI

        connection = self._connection
        clock = asyncio.get_running_loop().time
        limiter = RateLimiter(connection.requests_per_minute, connection.tokens_per_minute, clock, connection.window)
        pending = iter(requests)
        async with AsyncOpenAI(
            api_key=connection.api_key, base_url=connection.base_url, timeout=connection.timeout, max_retries=0
        ) as client:
            workers = [
                asyncio.create_task(self._work(client, limiter, pending, receive))
                for _ in range(min(connection.concurrency, len(requests)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, client: Any, limiter: RateLimiter, pending: Iterator[Request], receive: Receive) -> None:
        for request in pending:
            await self._ask(client, limiter, request, receive)

    async def _ask(self, client: Any, limiter: RateLimiter, request: Request, receive: Receive) -> None:
        """Sends one request until it is answered or its budget is used up."""
        attempt = 0
        while True:
            attempt += 1
            entry = await limiter.start(estimated_tokens(request))
            try:
                answer = await self._send(client, request, attempt)
            except Fault as fault:
                self.faults[fault.kind] += 1
                if not self._may_retry(fault, attempt):
                    self._give_up(fault)
                    return
                if fault.wait is None:
                    await asyncio.sleep(self._budget.wait(attempt))
                else:
                    limiter.pause(fault.wait)
                continue
            self._failed_in_a_row = 0
            if answer.prompt_tokens is not None and answer.completion_tokens is not None:
                limiter.correct(entry, answer.prompt_tokens + answer.completion_tokens)
            if answer.finish_reason == CUT:
                self.faults["finish reason length"] += 1
            receive(request, answer)
            return

    def _may_retry(self, fault: Fault, attempt: int) -> bool:
        if fault.status in FATAL:
            raise UserError(self._connection.redact(f"the server refused the request: {_words(fault)}"))
        if fault.wait is not None and fault.wait > MAX_WAIT:
            hours = fault.wait / 3600
            raise UserError(f"the server asks to wait for {hours:,.1f} hours ({fault.kind}); rerun the command then")
        return fault.status not in REFUSED and attempt <= self._budget.max_retries

    def _give_up(self, fault: Fault) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            words = f"{MAX_FAILED_IN_A_ROW} requests in a row failed, the last with {_words(fault)}"
            raise UserError(
                self._connection.redact(f"{words}; the answers so far are kept, rerun the command to resume")
            )

    async def _send(self, client: Any, request: Request, attempt: int) -> Answer:
        """Sends a request once and logs it. Raises Fault."""
        body = _body(request, self._connection)
        self._audit.add("request", request.key, attempt, body=body)
        started, outcome, found = time.monotonic(), "canceled", {}
        try:
            answer = await self._receive(client, request, body)
            outcome, found = answer.finish_reason, dataclasses.asdict(answer)
            return answer
        except Fault as fault:
            outcome, found = fault.kind, {"detail": fault.detail, "wait": fault.wait}
            raise
        finally:
            seconds = round(time.monotonic() - started, 3)
            self._audit.add("response", request.key, attempt, outcome=outcome, seconds=seconds, **found)

    async def _receive(self, client: Any, request: Request, body: dict[str, Any]) -> Answer:
        import openai

        api = client.chat.completions if request.settings.api == "chat" else client.completions
        try:
            async with asyncio.timeout(self._connection.timeout):
                raw = await api.with_raw_response.create(**body)
                text = self._connection.redact(raw.text)  # a proxy may send the request back
        except (TimeoutError, openai.APITimeoutError):
            raise Fault(TIMEOUT) from None
        except openai.APIStatusError as error:
            now = datetime.datetime.now(datetime.UTC)
            raise status_fault(error.status_code, error.response.headers, error.response.text, now) from None
        except openai.APIConnectionError as error:
            raise Fault(CONNECTION, str(error.__cause__ or error)) from None
        answer = read_answer(text, raw.headers, request.stop, request.settings.max_tokens)
        number = self._connection.redact(raw.headers.get("x-request-id", ""))
        return dataclasses.replace(answer, request_id=number or answer.request_id)


def _body(request: Request, connection: Connection) -> dict[str, Any]:
    """Returns the fields of a request. The whole prompt is one message of the user."""
    one = request.settings
    # OpenAI's newer models refuse the field that all other servers know.
    limit = "max_completion_tokens" if connection.base_url is None and one.api == "chat" else "max_tokens"
    prompt = (
        {"messages": [{"role": "user", "content": request.prompt}]} if one.api == "chat" else {"prompt": request.prompt}
    )
    return {
        "model": one.model,
        **prompt,
        limit: one.max_tokens,
        "temperature": one.temperature,
        **({} if one.top_p == 1 else {"top_p": one.top_p}),
        **({"stop": list(request.stop)} if request.stop else {}),
        **({} if request.seed is None else {"seed": request.seed}),
    }


def _words(fault: Fault) -> str:
    return fault.kind + (f" ({fault.detail})" if fault.detail else "")
