"""Malformed requests: valid ones with values of other types and ranges, foreign fields and broken bytes."""

import json
import random
from typing import Any

from tests.serving.requests import chat, completion

PATHS = ("/v1/completions", "/v1/chat/completions")
OTHER_PATHS = ("/v1/models", "/v1/models/\udcff".encode("utf-8", "replace").decode(), "/health", "/metrics", "/", "/v1")
NAMES = (
    "model", "prompt", "messages", "n", "temperature", "top_p", "max_tokens", "stop", "seed", "stream",
    "stream_options", "logprobs", "top_logprobs", "explainft", "echo", "best_of", "logit_bias", "suffix", "tools",
    "response_format", "presence_penalty", "user", "max_completion_tokens", "", "\u0000", "__class__", "unknown",
)  # fmt: skip
TEXTS = (
    "",
    " ",
    "[MAX 1 2 ]",
    "[MAX 1",
    "\u0000",
    "\ud800",
    "é" * 50,
    "<extra_id_0>",
    "</s>",
    "a" * 3000,
    "９",
    "]" * 99,
)
NUMBERS = (0, 1, -1, 2, 5, 6, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40)


def value(random_: random.Random, depth: int = 0) -> Any:
    """Returns a JSON value of any kind."""
    kinds = ["text", "number", "constant"] + (["list", "object"] if depth < 3 else [])
    kind = random_.choice(kinds)
    if kind == "list":
        return [value(random_, depth + 1) for _ in range(random_.randrange(4))]
    if kind == "object":
        names = ("question", "choices", "answer", "role", "content", "type", "text", "include_usage", "5", "x")
        return {random_.choice(names): value(random_, depth + 1) for _ in range(random_.randrange(4))}
    choices: dict[str, tuple[Any, ...]] = {"text": TEXTS, "number": NUMBERS, "constant": (None, True, False)}
    return random_.choice(choices[kind])


def malformed(random_: random.Random, model: str) -> tuple[str, str, bytes, dict[str, str]]:
    """Returns the method, path, body and headers of a request, most often a valid one that was changed."""
    path = random_.choice(PATHS)
    fields = (completion if path == PATHS[0] else chat)(model=model, max_tokens=2)
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        fields[random_.choice(NAMES)] = value(random_)
    if isinstance(fields.get("messages"), list) and random_.random() < 0.5:
        fields["messages"] = [{"role": "user", "content": value(random_)}, *fields["messages"]]
    body = json.dumps(fields).encode()
    kind = random_.random()
    if kind < 0.1:  # a broken byte
        place = random_.randrange(len(body))
        body = body[:place] + bytes([random_.randrange(256)]) + body[place + 1 :]
    elif kind < 0.15:
        body = body[: random_.randrange(len(body))]
    elif kind < 0.2:
        body = random_.choice(
            (b"", b"null", b"[]", b"1e999", b"NaN", b"{}", b'"' * 7, b"[" * 5000, random_.randbytes(50))
        )
    method = random_.choice(("POST",) * 45 + ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"))
    if random_.random() < 0.05:
        path = random_.choice(OTHER_PATHS)
    headers = random_.choice(({}, {"Content-Type": "text/plain"}, {"Content-Length": "-1"}, {"Authorization": "\xff"}))
    return method, path, body, headers
