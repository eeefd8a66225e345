"""Reads what an OpenAI-compatible server sends: an answer, or the kind of fault that it is."""

import datetime
import email.utils
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from explainft.teaching.outputs import cut_at_stop
from explainft.teaching.requests import COMPLETE, CUT, Answer

TIMEOUT, CONNECTION = "timeout", "connection"
HTML, BROKEN_JSON, MALFORMED = "HTML page", "JSON cut off", "malformed response"
NO_CHOICES, BLANK = "empty choices", "blank content"
# Not asked again: the same request would fail the same way.
REFUSED = frozenset({400, 405, 406, 413, 414, 415, 422, 501, 505})
# All requests would fail the same way.
FATAL = frozenset({401, 402, 403, 404, 407, 410, 451})
_INCOMPLETE = ("content_filter", "tool_calls", "function_call")  # reasons why a text is not the whole answer


class Fault(Exception):
    """A response without a usable answer. `kind` is what it is counted under, `detail` what a person reads.

    `wait` is the number of seconds that the server asks to wait, None where it does not say.
    """

    def __init__(self, kind: str, detail: str = "", wait: float | None = None, status: int = 200):
        super().__init__(kind, detail)
        self.kind, self.detail, self.wait, self.status = kind, detail, wait, status


def status_fault(status: int, headers: Mapping[str, str], body: str, now: datetime.datetime) -> Fault:
    """Returns the fault of a response whose status is an error."""
    return Fault(f"HTTP {status}", _error_message(body), retry_after(headers.get("retry-after"), now), status)


def retry_after(value: str | None, now: datetime.datetime) -> float | None:
    """Returns the seconds that a Retry-After header asks to wait, as a number or an HTTP date; None for neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
        seconds = max(0.0, (date - now).total_seconds())
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def read_answer(body: str, headers: Mapping[str, str], stop: Sequence[str], max_tokens: int) -> Answer:
    """Returns the answer in the body of a response with status 200, of either API. Raises Fault."""
    row = _parse(body, headers.get("content-type", ""))
    choices = row.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Fault(NO_CHOICES)
    first = choices[0]
    if not isinstance(first, Mapping):
        raise Fault(MALFORMED, "a choice is not an object")
    message = first.get("message")
    content = message.get("content") if isinstance(message, Mapping) else first.get("text")
    if content is not None and not isinstance(content, str):
        raise Fault(MALFORMED, "the content is not a text")
    reason = first.get("finish_reason")
    if reason in _INCOMPLETE:
        raise Fault(f"finish reason {reason}")
    text, stopped = cut_at_stop(content or "", stop)
    if reason == CUT and not stopped:  # what runs on past the answer is complete
        return Answer(None, CUT, max_tokens, *_usage(row))
    if not text:
        raise Fault(BLANK)
    return Answer(text, COMPLETE, max_tokens, *_usage(row))


def _parse(body: str, content_type: str) -> Mapping[str, Any]:
    try:
        row = json.loads(body)
    except (ValueError, RecursionError) as error:
        is_html = "html" in content_type or body.lstrip()[:1] == "<"
        raise Fault(HTML if is_html else BROKEN_JSON, body[:80]) from error
    if not isinstance(row, Mapping):
        raise Fault(MALFORMED, "not a JSON object")
    return row


def _usage(row: Mapping[str, Any]) -> tuple[str | None, int | None, int | None]:
    """Returns the request's id, and the tokens of the prompt and of the answer."""
    usage, number = row.get("usage"), row.get("id")
    counts = usage if isinstance(usage, Mapping) else {}
    prompt, completion = (
        count if type(count) is int and count >= 0 else None
        for count in (counts.get("prompt_tokens"), counts.get("completion_tokens"))
    )
    return number if isinstance(number, str) else None, prompt, completion


def _error_message(body: str) -> str:
    """Returns the message of an error in OpenAI's shape, else the body's beginning, in one line."""
    try:
        error = json.loads(body)["error"]
        body = error["message"] if isinstance(error, Mapping) else error
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return " ".join(str(body).split())[:200]
