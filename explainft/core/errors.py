"""Errors of the user: one line that names the value, the limit and the fix."""

import difflib
from collections.abc import Iterable

MAX_NAMES = 3  # of near ones in an error line
MAX_LISTED = 120  # characters; up to them an error line lists all known names


class UserError(ValueError):
    """The user's input cannot be used. The command line prints `line` alone and exits with code 2."""

    def __init__(self, line: str):
        super().__init__(line)
        self.line = line  # gin adds to the text of an exception that passes through it, but not to this


def require_positive(**values: object) -> None:
    """Raises UserError where a value is not an integer of at least 1. The names are those that the user set."""
    _require_integer(1, values)


def require_count(**values: object) -> None:
    """Raises UserError where a value is not an integer of at least 0."""
    _require_integer(0, values)


def _require_integer(minimum: int, values: dict[str, object]) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise UserError(f"{name}={value!r} must be an integer of at least {minimum}")


def require_at_least_zero(**values: object) -> None:
    """Raises UserError where a value is not a number of at least 0."""
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise UserError(f"{name}={value!r} must be a number of at least 0")


def require_name(**values: object) -> None:
    """Raises UserError where a value is not a non-empty string."""
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"{name}={value!r} must be a non-empty string")


def require_local(**values: str) -> None:
    """Raises UserError for a bucket as a place to write: Python would create its path in the current directory."""
    for name, value in values.items():
        if "://" in value:
            raise UserError(
                f"{name}={value} must be a directory of this machine; write to one, or to a bucket mounted as one"
            )


def nearest(name: object, known: Iterable[str]) -> str:
    """Returns the end of an error line about an unknown name: the nearest known name.

    Where none is near, it lists all known names if they are few, else the `MAX_NAMES` nearest and the number of all.
    """
    name, known = str(name), sorted(known)
    if not known:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    listed = ", ".join(known)
    if len(listed) <= MAX_LISTED:
        return f"; known: {listed}"
    likely = difflib.get_close_matches(name, known, n=MAX_NAMES, cutoff=0)
    return f"; nearest of {len(known):,} known: {', '.join(likely)}"
