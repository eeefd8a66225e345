"""Reads JSON lines files."""

import codecs
import json
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError


def read_jsonl(file: Path, required: dict[str, type], head: bool = False) -> list[dict[str, Any]]:
    """Returns an object for each line; none where the file does not exist.

    `required` maps a field's name to its type; `head`: the first line is an object of other fields. A UTF-8 byte-order
    mark is skipped, and so is a last line that a killed process has left incomplete. Raises UserError that names the
    line for any other line without the fields.
    """
    try:
        lines = file.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n") if file.exists() else []
    except OSError as e:
        raise UserError(f"cannot read {file} ({e.strerror})") from e
    rows = []
    for number, line in enumerate(lines, 1):
        fields = {} if head and number == 1 else required
        row = _parse(line, fields)
        if row is not None:
            rows.append(row)
        elif number < len(lines):  # the part after the last newline is empty or incomplete
            wanted = " with " + ", ".join(f'"{name}"' for name in fields) if fields else ""
            raise UserError(
                f"{file} line {number} is corrupt; expected a JSON object{wanted}; correct or delete the line"
            )
    return rows


def _parse(line: bytes, required: dict[str, type]) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    complete = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in required.items())
    return row if complete else None
