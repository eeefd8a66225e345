"""JSON lines files."""

import json
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError


def read_jsonl(file: Path, required: dict[str, type]) -> list[dict[str, Any]]:
    """An object for each line, with the fields `required`. The last line is passed over where a kill has cut it off."""
    try:
        lines = file.read_bytes().split(b"\n") if file.exists() else []
    except OSError as e:
        raise UserError(f"cannot read {file} ({e.strerror})") from e
    rows = []
    for number, line in enumerate(lines, 1):
        row = _parse(line, required)
        if row is not None:
            rows.append(row)
        elif number < len(lines):  # what stands behind the last newline is empty or cut off
            [name] = required
            raise UserError(
                f'{file} line {number} is damaged; expected a JSON object with a "{name}"; mend or delete it'
            )
    return rows


def _parse(line: bytes, required: dict[str, type]) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    fits = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in required.items())
    return row if fits else None
