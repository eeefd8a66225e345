"""Requests to the application without a network, and what they ask."""

import asyncio
import json
from typing import Any, NamedTuple

MODEL = "medium_tiny"
EXPRESSIONS = [
    "[MAX 2 9 [MIN 4 7 ] 0 ]", "[MIN 3 8 ]", "[SUM 4 [MAX 1 2 ] 9 ]", "[MED 5 1 8 ]", "[MAX [MIN 5 6 ] [MAX 1 3 ] 2 ]",
    "[SUM 9 9 9 ]", "[MIN 7 [SUM 2 2 ] 6 ]", "[MAX 0 0 ]",
]  # fmt: skip


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": EXPRESSIONS[0], "temperature": 0, **fields}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": EXPRESSIONS[0]}], "temperature": 0, **fields}


async def send(app: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
    """Sends one request; the client stays until the reply is complete."""
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": given, "scheme": "http",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def put(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, put)
    start = sent[0]
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def post(app: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(send(app, "POST", path, content, headers))


def get(app: Any, path: str, headers: dict[str, str] | None = None) -> Reply:
    return asyncio.run(send(app, "GET", path, b"", headers))
