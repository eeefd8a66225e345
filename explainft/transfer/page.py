"""The page of a transfer matrix: one HTML file that needs no other file and no network."""

from collections.abc import Sequence

from explainft.reporting.looks import diverging, heat
from explainft.reporting.page import (
    as_json,
    content_policy,
    escape,
    fill_page,
    kind_colours,
    set_elements,
    text_table,
    web_part,
)
from explainft.reporting.page_data import kinds_of_sets, pack_sets
from explainft.transfer.columns import Column, format_shots
from explainft.transfer.differences import UNCLEAR, Difference
from explainft.transfer.matrix import Cell, Matrix, Row, summarize
from explainft.transfer.tables import (
    CELL_HEADER,
    SUMMARY_HEADER,
    bounds,
    cell_rows,
    change_bounds,
    percent,
    points,
    summary_rows,
)

SCRIPTS = ("page.js", "compare.js", "tree.js", "question.js", "explorer.js")
MAX_PREDICTIONS, MIN_ROWS = 20_000, 50  # in the page, and of a cell
OWN = "<small>own task</small>"
NOTHING = '<tbody><tr><td class="none">{}</td></tr></tbody>'


def document(matrix: Matrix) -> str:
    """Returns the page."""
    cells = len(matrix.rows) * len(matrix.columns)
    max_rows = max(MIN_ROWS, MAX_PREDICTIONS // cells)
    readable = [[cell.predictions for cell in row.cells if cell.predictions.texts] for row in matrix.rows]
    sets = pack_sets(readable, max_rows)
    links = {(about["label"], about["task"]): i for i, (about, _) in enumerate(sets)}
    kinds = kinds_of_sets(sets)
    script = "\n".join(web_part(name) for name in SCRIPTS)
    fields = {
        "policy": content_policy(script),
        "style": web_part("page.css") + kind_colours(kinds),
        "lead": _lead(matrix),
        "columns": str(len(matrix.columns)),
        "matrix_note": _matrix_note(matrix),
        "matrix": _matrix(matrix, links),
        "differences": _differences(matrix, links),
        "summary": text_table(SUMMARY_HEADER, summary_rows(matrix)) if matrix.compared else "",
        "formats": _formats(matrix, links),
        "table": text_table(CELL_HEADER, cell_rows(matrix)),
        "data": as_json(
            {
                "kinds": {name: {"label": kind.label, "meaning": kind.meaning} for name, kind in kinds.items()},
                "sets": [about for about, _ in sets],
            }
        ),
        "sets": set_elements(sets),
        "script": script,
    }
    return fill_page("transfer.html", fields)


def _lead(matrix: Matrix) -> str:
    """The result in a sentence: gains and losses of each run on what it was not trained on."""
    parts = []
    for row, differences in matrix.compared[:4]:
        of = summarize(row, differences)
        others = of.positive + of.negative + of.unclear
        parts.append(
            f"<strong>{escape(row.source.label)}</strong> gains on {of.positive} and loses on {of.negative} "
            f"of {others} other evaluations"
        )
    if not parts:
        return f"{len(matrix.rows)} runs on {len(matrix.columns)} evaluations."
    if len(matrix.compared) > 4:
        parts.append(f"and {len(matrix.compared) - 4} more")
    return f"Against its start, {'; '.join(parts)}."


def _matrix_note(matrix: Matrix) -> str:
    metrics = sorted({cell.metric.replace("_", " ") for row in matrix.rows for cell in row.cells})
    return f"{escape(', '.join(metrics).capitalize())}, its 95% interval below. A number links to its predictions."


Links = dict[tuple[str, str], int]


def _matrix(matrix: Matrix, links: Links) -> str:
    def cell_html(row: Row, cell: Cell) -> str:
        fill, ink = heat(min(max(cell.value, 0.0), 1.0))
        below = [bounds(cell.interval), f"n = {cell.n:,}"]
        small = "".join(f"<small>{text}</small>" for text in below if text) + (OWN if cell.own else "")
        return _cell(_linked(row, cell, percent(cell.value), links), small, fill, ink)

    rows = [(row.source.label, [cell_html(row, cell) for cell in row.cells]) for row in matrix.rows]
    return _table(matrix.columns, rows)


def _differences(matrix: Matrix, links: Links) -> str:
    if not matrix.compared:
        return NOTHING.format("No run has a starting checkpoint; --baseline names one.")

    def cell_html(row: Row, cell: Cell, change: Difference) -> str:
        small = f"<small>{change_bounds(change)}</small>" + (OWN if cell.own else "")
        text = _linked(row, cell, points(change.value), links)
        if change.transfer == UNCLEAR:
            text = f'<span class="unclear">{text}</span>'
        return _cell(text, small, *diverging(change.value))

    rows = [
        (
            f"{row.source.label} \u2212 {row.source.baseline}",
            [cell_html(row, cell, change) for cell, change in zip(row.cells, differences, strict=True)],
        )
        for row, differences in matrix.compared
    ]
    return _table(matrix.columns, rows)


def _formats(matrix: Matrix, links: Links) -> str:
    def cell_html(row: Row, cell: Cell) -> str:
        trained, asked = cell.formats.trained, cell.formats.asked
        small = "" if asked is None else f"<small>asked {percent(asked)}</small>"
        text = "\u2013" if trained is None else _linked(row, cell, percent(trained), links)
        return _cell(text, small, *heat(trained))

    rows = [(row.source.label, [cell_html(row, cell) for cell in row.cells]) for row in matrix.rows]
    return _table(matrix.columns, rows)


def _linked(row: Row, cell: Cell, text: str, links: Links) -> str:
    i = links.get((row.source.label, cell.predictions.task))
    if i is None:
        return text
    label = f"{row.source.label}, {cell.predictions.split}: {text}; explore the predictions"
    return f'<a href="#explorer" data-set="{i}" aria-label="{escape(label)}">{text}</a>'


def _cell(inner: str, small: str, fill: str, ink: str) -> str:
    return f'<td role="cell" style="background:{fill};color:{ink}"><b>{inner}</b>{small}</td>'


Rows = Sequence[tuple[str, Sequence[str]]]


def _table(columns: Sequence[Column], rows: Rows) -> str:
    # The roles stand there for a narrow screen, where the rows are laid out as no table has them.
    head = "".join(f'<th role="columnheader" scope="col">{_column_head(column)}</th>' for column in columns)
    body = "".join(
        f'<tr role="row"><th role="rowheader" scope="row">{escape(label)}</th>{"".join(cells)}</tr>'
        for label, cells in rows
    )
    return (
        f'<thead role="rowgroup"><tr role="row"><td role="cell"></td>{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody>'
    )


def _column_head(column: Column) -> str:
    group = f"<small>{escape(column.group)}</small>" if column.group else ""
    shots = "" if column.shots is None else f"<small>{format_shots(column.shots)}</small>"
    return f"{group}{escape(column.label)}{shots}"
