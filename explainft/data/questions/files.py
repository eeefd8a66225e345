"""Rows of JSON files: JSON lines or one array, gzip or plain, read in bounded memory."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from explainft.core.errors import UserError

MAX_ROW_BYTES = 10 * 2**20
_CHUNK = 2**16
_SPACES = re.compile(r"\s*")
_BOM = b"\xef\xbb\xbf"


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the line number (from 1) and the JSON value of each row; of an array, the line that an item begins on.

    A row of JSON lines ends at `\\n` alone; empty lines are skipped. Raises UserError, with file and line, for what is
    not UTF-8 or JSON, for a row over MAX_ROW_BYTES and for a file that cannot be read or has no rows.
    """
    try:
        with open(path, "rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with cast(IO[bytes], gzip.open(plain)) if zipped else plain as file:
                empty = True
                for row in _rows(path, file):
                    empty = False
                    yield row
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot read {path} ({reason}); name a file of JSON lines or a JSON array") from error
    if empty:
        raise UserError(f"{path} has no rows; expected JSON lines or a JSON array")


def _rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    number, line = 1, _read_line(path, 1, file).removeprefix(_BOM)
    while line and not line.strip():
        number, line = number + 1, _read_line(path, number + 1, file)
    if line.lstrip().startswith(b"["):
        yield from _array_items(path, number, line, file)
        return
    while line:
        if line.strip():
            yield number, _parse(path, number, line)
        number, line = number + 1, _read_line(path, number + 1, file)


def _read_line(path: Path, number: int, file: IO[bytes]) -> bytes:
    line = file.readline(MAX_ROW_BYTES + 1)
    # An array may stand on one line of any length: its items are measured one by one.
    if len(line) > MAX_ROW_BYTES and not (number == 1 and line.removeprefix(_BOM).lstrip().startswith(b"[")):
        raise UserError(f"{path} line {number} is longer than {MAX_ROW_BYTES:,} bytes; split or remove it")
    return line


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} line {number} is not UTF-8 text; convert the file") from error
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise UserError(f"{path} line {number} is not JSON ({reason}); correct or remove it") from error


def _array_items(path: Path, number: int, start: bytes, file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Yields the items of one array, a chunk of the file at a time."""
    decoder, items = json.JSONDecoder(), _Text(path, start, file)
    items.skip("[")
    while not items.at("]"):
        line = number + items.lines
        while True:
            try:
                value, end = decoder.raw_decode(items.text, items.place)
                if end < len(items.text) or not items.more():  # a number may go on in the next chunk
                    break
            except (ValueError, RecursionError) as error:
                if len(items.text) - items.place > MAX_ROW_BYTES:
                    raise UserError(f"{path} line {line} has an item over {MAX_ROW_BYTES:,} bytes; split it") from error
                if isinstance(error, RecursionError) or not items.more():
                    raise UserError(f"{path} line {line} is not JSON; the array is cut off or malformed") from error
        items.advance(end)
        yield line, value
        if not items.at("]"):
            items.skip(",")
    items.skip("]")


class _Text:
    """The text of a file from a place on; what was passed is forgotten."""

    def __init__(self, path: Path, start: bytes, file: IO[bytes]):
        self.text, self.place, self.lines = "", 0, 0
        self._path, self._file, self._bytes = path, file, start

    def more(self) -> bool:
        """Appends a chunk; returns whether there was one."""
        data = self._bytes or self._file.read(_CHUNK)
        self._bytes = b""
        if not data:
            return False
        while data[-1] >= 0x80 and (rest := self._file.read(1)):  # not inside of a character
            data += rest
        try:
            self.text = self.text[self.place :] + data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path} is not UTF-8 text; convert the file") from error
        self.place = 0
        return True

    def advance(self, place: int) -> None:
        self.lines += self.text.count("\n", self.place, place)
        self.place = place

    def at(self, character: str) -> bool:
        """Skips whitespace; returns whether the character stands next."""
        while True:
            spaces = _SPACES.match(self.text, self.place)
            assert spaces is not None  # it matches nothing too
            self.advance(spaces.end())
            if self.place < len(self.text):
                return self.text[self.place] == character
            if not self.more():
                return False

    def skip(self, character: str) -> None:
        if not self.at(character):
            raise UserError(f"{self._path} is a JSON array without {character!r} where it must stand; is it cut off?")
        self.place += 1
