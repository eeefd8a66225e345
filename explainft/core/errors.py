"""Mistakes of the user: one line that names the value, the limit and the cure."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user gave cannot be used; the command line prints `line` alone and exits with code 2."""

    def __init__(self, line: str):
        super().__init__(line)
        self.line = line  # gin adds to the text of an exception that passes through it, but not to this


def require_positive(**values: object) -> None:
    """Refuses what is no whole number of at least 1. Names are those that the user set."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name}={value!r} must be a whole number of at least 1")


def require_count(**values: object) -> None:
    """Refuses what is no whole number of at least 0."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(f"{name}={value!r} must be a whole number of at least 0")


def require_at_least_zero(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise UserError(f"{name}={value!r} must be a number of at least 0")


def require_name(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"{name}={value!r} is no name")


def require_local(**values: str) -> None:
    """Refuses a bucket where something is to be written: a path like any other would be made in the current folder."""
    for name, value in values.items():
        if "://" in value:
            raise UserError(f"{name}={value} is no folder of this machine; write to one, or to a bucket mounted as one")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line about an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    if not known:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
