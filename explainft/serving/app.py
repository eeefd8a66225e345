"""The HTTP application: routes, the API key, the limit of bodies, and clients that leave."""

import asyncio
import contextlib
import dataclasses
import hmac
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from explainft.serving import metrics
from explainft.serving.answers import LAST_EVENT, Answer, encode, event
from explainft.serving.engine import Delta, Engine, Event, Failed, Job, QueueFull
from explainft.serving.errors import ApiError, internal_error
from explainft.serving.fields import parse_body
from explainft.serving.requests import Generation, RequestReader

RETRY_AFTER = {"Retry-After": "1"}  # seconds, with a full queue
LEFT = 499  # the status that metrics count a request with whose client left
Endpoint = Callable[[Request], Awaitable[Any]]


@dataclasses.dataclass(frozen=True)
class Service:
    """The endpoints of one model. `api_key`: None: none is asked for; `max_body`: bytes of a request."""

    reader: RequestReader
    engine: Engine
    api_key: str | None
    max_body: int
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def app(self) -> Starlette:
        post = {"/v1/completions": self.completions, "/v1/chat/completions": self.chat}
        get = {
            "/v1/models": self.models,
            "/v1/models/{model:path}": self.model,
            "/health": self.health,
            "/metrics": self.metrics,
        }
        routes = [Route(path, self._guard(path, endpoint), methods=["POST"]) for path, endpoint in post.items()]
        routes += [Route(path, self._guard(path, endpoint), methods=["GET"]) for path, endpoint in get.items()]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refuse_route})

    async def completions(self, request: Request) -> "GenerationResponse":
        return await self._generate(request, self.reader.completion)

    async def chat(self, request: Request) -> "GenerationResponse":
        return await self._generate(request, self.reader.chat)

    async def models(self, request: Request) -> Response:
        return _json({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if name != self.reader.model:
            raise ApiError(
                404, f"no model {name[:80]!r}; this server has {self.reader.model!r}", "model", "model_not_found"
            )
        return _json(self._model())

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self.engine.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    def _model(self) -> dict[str, Any]:
        return {"id": self.reader.model, "object": "model", "created": self.created, "owned_by": "explainft"}

    async def _generate(self, request: Request, read: Callable[[dict[str, Any]], Generation]) -> "GenerationResponse":
        body = await self._body(request)
        # In a thread: to tokenize a long text takes a while, and other requests stream meanwhile.
        generation = await asyncio.to_thread(lambda: read(parse_body(body)))
        response = GenerationResponse(self.reader.model, generation, self.engine)
        response.submit()
        return response

    async def _body(self, request: Request) -> bytes:
        too_long = ApiError(413, f"the body has more than {self.max_body:,} bytes, the limit of this server")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body:
            raise too_long
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self.max_body:
                raise too_long
        return bytes(body)

    def _guard(self, path: str, endpoint: Endpoint) -> Endpoint:
        """Wraps an endpoint: checks the key, turns errors into answers and counts requests."""

        async def guarded(request: Request) -> Any:
            try:
                if path != "/health":
                    self._check_key(request)
                response = await endpoint(request)
            except ApiError as error:
                response = _json(error.json(), error.status, error.headers)
            except QueueFull:
                error = ApiError(503, "the queue is full; try again later", None, "queue_full")
                response = _json(error.json(), 503, RETRY_AFTER)
            except ClientDisconnect:  # before its body was complete
                response = Response(status_code=LEFT)
            except Exception:
                _log_failure()
                response = _json(internal_error().json(), 500)
            if isinstance(response, GenerationResponse):
                response.count = lambda status: self._count(path, status)
            else:
                self._count(path, response.status_code)
            return response

        return guarded

    def _check_key(self, request: Request) -> None:
        if self.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode("latin-1"), self.api_key.encode()):
            raise ApiError(
                401, "the API key is missing or wrong", None, "invalid_api_key", {"WWW-Authenticate": "Bearer"}
            )

    def _count(self, path: str, status: int) -> None:
        self.engine.metrics.requests[path, status] += 1


class GenerationResponse:
    """Answers a request while its outputs are decoded; where the client leaves, their rows become free."""

    def __init__(self, model: str, generation: Generation, engine: Engine):
        self.count: Callable[[int], None] = lambda status: None
        self._generation, self._engine = generation, engine
        self._answer = Answer(model, generation)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the client left
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: no client is left
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._job = Job(generation.prompts, generation.num_samples, generation.settings, deliver)

    def submit(self) -> None:
        """Queues the outputs. Raises QueueFull."""
        self._engine.submit(self._job)
        self._engine.metrics.prompt_tokens += self._generation.prompt_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._watch(receive))
        status = LEFT
        try:
            status = await (self._stream(send) if self._generation.settings.streams else self._send_whole(send))
        except OSError:  # the connection was lost while something was sent
            pass
        finally:
            self._engine.cancel(self._job)
            watch.cancel()
            self.count(status)
            self._engine.metrics.cancelled += status == LEFT

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._engine.cancel(self._job)
        self._events.put_nowait(None)

    async def _send_whole(self, send: Send) -> int:
        while not self._answer.complete:
            found = await self._events.get()
            if not isinstance(found, Delta):
                return LEFT if found is None else await _send_failure(send)
            self._answer.add(found)
        try:
            body = await asyncio.to_thread(lambda: encode(self._answer.json()))
        except Exception:
            _log_failure()
            return await _send_failure(send)
        return await _send_json(send, 200, body)

    async def _stream(self, send: Send) -> int:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def put(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        for chunk in self._answer.first_chunks():
            await put(event(chunk))
        while not self._answer.complete:
            found = await self._events.get()
            if found is None:
                return LEFT
            if isinstance(found, Failed):
                await put(event(internal_error().json()), more=False)
                return 500
            self._answer.add(found)
            # In a thread where an answer is read from the text.
            reads = found.finish_reason is not None and self._generation.checked is not None
            chunk = await asyncio.to_thread(self._answer.chunk, found) if reads else self._answer.chunk(found)
            await put(event(chunk))
        if (usage := self._answer.usage_chunk()) is not None:
            await put(event(usage))
        await put(LAST_EVENT, more=False)
        return 200


async def _send_json(send: Send, status: int, body: bytes) -> int:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


async def _send_failure(send: Send) -> int:
    return await _send_json(send, 500, encode(internal_error().json()))


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, "application/json")


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:80]}"
    found = ApiError(error.status_code, f"{what} is not served; see /v1/models", None, None)
    return _json(found.json(), error.status_code, dict(error.headers or {}))


def _log_failure() -> None:
    print(f"explainft: error: a request failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
