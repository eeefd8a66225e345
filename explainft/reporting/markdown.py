"""Markdown tables, aligned so that they read well as plain text too."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Returns a table; the first columns are text, the others numbers, flush right."""
    lines = [header, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(3, *(len(cells[i]) for cells in lines)) for i in range(len(header))]
    rule = ["-" * (width - 1) + (":" if i >= text_columns else "-") for i, width in enumerate(widths)]
    pad = [str.ljust] * text_columns + [str.rjust] * (len(header) - text_columns)
    padded = [[pad[i](cells[i], widths[i]) for i in range(len(header))] for cells in (lines[0], rule, *lines[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in padded)
