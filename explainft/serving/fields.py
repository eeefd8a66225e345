"""The fields of a request: typed and in range, or a 400 that names the field."""

import json
import math
from collections.abc import Mapping
from typing import Any

from explainft.serving.errors import ApiError


def parse_body(body: bytes) -> dict[str, Any]:
    """Returns a JSON object. Raises ApiError for anything else."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body must be JSON in UTF-8 ({_line(error)})") from error
    if not isinstance(found, dict):
        raise ApiError(400, f"the body must be a JSON object, not {_kind(found)}")
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


class Fields:
    """Reads the fields of a JSON object. null counts as a field that is not there."""

    def __init__(self, found: Mapping[str, Any], prefix: str = ""):
        self._found, self._prefix = found, prefix

    def refuse_unknown(self, known: set[str]) -> None:
        for name in self._found:
            if name not in known:
                raise ApiError(
                    400, f"{self._name(name)} is not supported; leave it out", self._name(name), "unsupported"
                )

    def refuse_others(self, name: str, *neutral: Any) -> None:
        """Raises ApiError where a field that is not supported has another value than those that change nothing."""
        value = self.get(name)
        if value is not None and not any(type(value) is type(n) and value == n for n in neutral):
            raise ApiError(400, f"{self._name(name)} is not supported; leave it out", self._name(name), "unsupported")

    def get(self, name: str) -> Any:
        return self._found.get(name)

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise self.error(name, "must be a string")
        return value

    def boolean(self, name: str) -> bool:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.error(name, "must be true or false")
        return bool(value)

    def integer(self, name: str, default: Any, low: int, high: int) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self.error(name, f"must be an integer from {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(name, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def inner(self, name: str) -> "Fields":
        """Returns the fields of an object inside."""
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.error(name, "must be an object")
        return Fields(value, f"{self._name(name)}.")

    def error(self, name: str, reason: str) -> ApiError:
        value = self._found.get(name)
        shown = json.dumps(value) if isinstance(value, str | int | float) else f"({_kind(value)})"
        shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
        return ApiError(400, f"{self._name(name)}={shown} {reason}", self._name(name))

    def _name(self, name: str) -> str:
        return f"{self._prefix}{name}"[:80]


def finite(value: float) -> float | None:
    """Returns the number, or None where JSON has none for it."""
    return value if math.isfinite(value) else None
