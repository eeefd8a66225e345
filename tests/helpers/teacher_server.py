"""A server in the shape of OpenAI's, with faults by plan, and a log of what it was asked."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.helpers.questions import HOMES


class Reply(NamedTuple):
    """A response. `text`: the content of a whole answer, in place of `body`. `cut_at`: bytes after which it closes."""

    text: str | None = None
    status: int = 200
    body: str = ""
    headers: dict[str, str] = {}
    finish_reason: str = "stop"
    delay: float = 0.0
    cut_at: int | None = None


class Call(NamedTuple):
    """A request that arrived. `attempt` counts those with the same prompt, limit and seed, from 1."""

    prompt: str
    body: dict[str, Any]
    attempt: int
    time: float
    headers: dict[str, str]


def question_of(prompt: str) -> str:
    """Returns the question that a prompt ends with."""
    return re.findall(r"Where does .*? live\?", prompt)[-1]


def gold(prompt: str) -> str:
    """Returns the answer of the question that a prompt ends with."""
    return HOMES[question_of(prompt).split()[2]]


def explain(prompt: str, answer: str | None = None) -> str:
    """Returns an explanation that names its question, and the gold answer or another."""
    return f"It says: {question_of(prompt)} Its kind is found there. So the answer is {answer or gold(prompt)}."


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections of all workers come at once

    def handle_error(self, request, client_address):
        """A client that was killed leaves half of a request."""


def _limit(body: dict[str, Any]) -> int:
    return body["max_tokens"] if "max_tokens" in body else body["max_completion_tokens"]


class TeacherServer:
    """Answers with `respond`, a function from a call to a reply."""

    def __init__(self, respond: Callable[[Call], Reply]):
        self.calls: list[Call] = []
        self.active = self.most_active = 0
        self._respond, self._lock = respond, threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def counts(self) -> dict[str, int]:
        """Returns how often each prompt arrived."""
        found: dict[str, int] = {}
        for call in list(self.calls):
            found[call.prompt] = found.get(call.prompt, 0) + 1
        return found

    def _receive(self, body: dict[str, Any], headers: dict[str, str]) -> Call:
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        same = (prompt, _limit(body), body.get("seed"))
        with self._lock:
            known = [(one.prompt, _limit(one.body), one.body.get("seed")) for one in self.calls]
            call = Call(prompt, body, known.count(same) + 1, time.monotonic(), headers)
            self.calls.append(call)
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        return call

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805  (the class below has a self of its own)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                call = server._receive(body, {name.lower(): value for name, value in self.headers.items()})
                try:
                    reply = server._respond(call)
                    time.sleep(reply.delay)
                    with contextlib.suppress(OSError):  # the client left
                        self._send(reply, "messages" in body)
                finally:
                    with server._lock:
                        server.active -= 1

            def _send(self, reply: Reply, chat: bool) -> None:
                data = (reply.body if reply.text is None else completion(reply, chat)).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: reply.cut_at])
                if reply.cut_at is not None:
                    self.close_connection = True

            def log_message(self, format, *args):
                pass

        return Handler


def completion(reply: Reply, chat: bool = True) -> str:
    """Returns the body of a response with a text."""
    content = {"message": {"role": "assistant", "content": reply.text}} if chat else {"text": reply.text}
    choice = {"index": 0, "finish_reason": reply.finish_reason, **content}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return json.dumps({"id": "cmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage})


@contextlib.contextmanager
def serving(respond: Callable[[Call], Reply]) -> Iterator[TeacherServer]:
    """Runs a server in a thread."""
    server = TeacherServer(respond)
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        thread.join()
        server._server.server_close()
