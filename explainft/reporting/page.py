"""The page of a report: one HTML file that needs no other file and no network.

Its tables are written here, as text for every browser; Vega draws the charts, and the scripts in web/ let the reader
explore the predictions. A model's outputs reach the page as data only: packed, and shown by JavaScript as text.
"""

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import vl_convert

from explainft.reporting.looks import chance, heat, interval
from explainft.reporting.page_data import Sets, kinds_of_sets, pack_sets, page_data
from explainft.reporting.predictions import Predictions
from explainft.reporting.runs import Metrics, Row, Run, grid
from explainft.reporting.vega import VEGA_LITE
from explainft.reporting.verdicts import Kind
from explainft.reporting.vote_charts import Line

SCRIPTS = (
    "page.js",
    "charts.js",
    "compare.js",
    "tree.js",
    "question.js",
    "explorer.js",
)  # in the order in which they need each other


def document(
    runs: Sequence[Run],
    predictions: Sequence[Sequence[Predictions]],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    lines: Sequence[Line] = (),
) -> str:
    """Returns the page.

    `predictions` are those of each run, `header` and `rows` the cells of the report's table, `lines` the votes over
    samples.
    """
    splits, cells = grid(runs)
    sets = pack_sets(predictions)
    kinds = kinds_of_sets(sets)
    script, vega = "\n".join(web_part(name) for name in SCRIPTS), vega_script()
    fields = {
        "policy": content_policy(script, vega),
        "style": web_part("page.css") + kind_colours(kinds),
        "lead": _lead(splits, cells),
        "columns": str(len(splits)),
        "heatmap": _heatmap(splits, cells, [about for about, _ in sets]),
        "first_errors": _first_errors([about for about, _ in sets], kinds),
        "table": text_table(header, rows),
        "data": as_json(page_data(runs, splits, cells, sets, lines)),
        "sets": set_elements(sets),
        "vega": vega,
        "script": script,
    }
    return fill_page("page.html", fields)


def fill_page(name: str, fields: Mapping[str, str]) -> str:
    """Returns a page of web/ with the fields in the places of their names."""
    # One pass, so that no field is looked for in another one's text.
    return re.sub(r"<!-- (\w+) -->", lambda match: fields[match[1]], web_part(name))


def set_elements(sets: Sets) -> str:
    """Returns the elements that hold packed predictions."""
    return "".join(f'<script type="text/plain" id="set-{i}">{packed}</script>\n' for i, (_, packed) in enumerate(sets))


@functools.cache
def vega_script() -> str:
    """Returns Vega, Vega-Lite and vega-embed as a script that defines vegaEmbed and no other name."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return f"(() => {{{bundle}}})()".replace("</script", "<\\/script").replace("<!--", "<\\!--")


def web_part(name: str) -> str:
    return (resources.files("explainft.reporting") / "web" / name).read_text(encoding="utf-8")


def content_policy(*scripts: str) -> str:
    """Allows nothing from anywhere, and no script but these: not even one that a defect lets into the page."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"


def as_json(value: Any) -> str:
    """JSON in a script element, which `</script>` and `<!--` would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


# ---- text


def kind_colours(kinds: Mapping[str, Kind]) -> str:
    return "".join(f".kind-{name} {{ --kind: {kind.colour}; }}\n" for name, kind in kinds.items())


def _lead(splits: Sequence[str], rows: Sequence[Row]) -> str:
    """The result in a sentence: exact match of the best rows on the test split, or on the first that there is."""
    split = "test" if "test" in splits else next(iter(splits), "")
    found = [(row.label, row.cells[split][2]) for row in rows if "exact_match" in row.cells.get(split, ("", 0, {}))[2]]
    if not found:
        return "These runs have no evaluations yet."
    found.sort(key=lambda item: -item[1]["exact_match"])
    parts = [
        f"<strong>{escape(label)} {_percent(m['exact_match'])}</strong> {interval(m)}{_beside(m)}".rstrip()
        for label, m in found[:4]
    ]
    if len(found) > 4:
        parts.append(f"and {len(found) - 4} more")
    return f"Exact match on <em>{escape(split)}</em>: {', '.join(parts)}."


def _beside(metrics: Metrics) -> str:
    return f" ({chance(metrics)})" if chance(metrics) else ""


def _heatmap(splits: Sequence[str], rows: Sequence[Row], sets: Sequence[dict[str, Any]]) -> str:
    # The roles stand there for a narrow screen, where the rows are laid out as no table has them.
    explored = {(about["run"], about["task"]): i for i, about in enumerate(sets)}
    head = "".join(f'<th role="columnheader" scope="col">{escape(split)}</th>' for split in splits)
    body = []
    for row in rows:
        cells = []
        for split in splits:
            task, _, metrics = row.cells.get(split, ("", 0, {}))
            fraction = metrics.get("exact_match")
            fill, ink = heat(fraction)
            inner = "–" if fraction is None else _percent(fraction)
            if (i := explored.get((row.run, task))) is not None:
                label = f"{row.label}, {split}: {inner}; explore the predictions"
                inner = f'<a href="#explorer" data-set="{i}" aria-label="{escape(label)}">{inner}</a>'
            below = [interval(metrics), f"n = {metrics['n']:,.0f}" if "n" in metrics else "", chance(metrics)]
            small = "".join(f"<small>{text}</small>" for text in below if text)
            cells.append(f'<td role="cell" style="background:{fill};color:{ink}"><b>{inner}</b>{small}</td>')
        body.append(f'<tr role="row"><th role="rowheader" scope="row">{escape(row.label)}</th>{"".join(cells)}</tr>')
    return (
        f'<thead role="rowgroup"><tr role="row"><td role="cell"></td>{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody>'
    )


def _first_errors(sets: Sequence[dict[str, Any]], kinds: Mapping[str, Kind]) -> str:
    """A row for each set of predictions: a bar, and the fraction of each kind."""
    # Roles as in the heat map, for the same reason; a narrow screen shows labels beside the fractions, and no dashes.
    head = "".join(
        f'<th role="columnheader" scope="col" class="kind-{name}" title="{escape(kind.meaning)}">'
        f'<i class="swatch"></i>{kind.label}</th>'
        for name, kind in kinds.items()
    )
    body = []
    for about in sets:
        fractions = {name: about["kinds"].get(name, 0) / about["total"] for name in kinds}
        bar = "".join(
            f'<span class="kind-{kind}" style="width:{100 * fraction:.2f}%"></span>'
            for kind, fraction in fractions.items()
            if fraction
        )
        cells = "".join(
            f'<td role="cell" class="kind-{kind}" data-label="{kinds[kind].label}">{_percent(fraction)}</td>'
            if fraction
            else '<td role="cell">–</td>'
            for kind, fraction in fractions.items()
        )
        name = f"{escape(about['label'])} <small>{escape(about['split'])}</small>"
        body.append(
            f'<tr role="row"><th role="rowheader" scope="row">{name}</th>'
            f'<td class="bar" aria-hidden="true"><div>{bar}</div></td>{cells}'
            f'<td role="cell" data-label="n">{about["total"]:,}</td></tr>'
        )
    return (
        '<thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">run</th>'
        f'<td class="bar" aria-hidden="true"></td>{head}<th role="columnheader" scope="col">n</th></tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody>'
    )


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}"


def escape(text: str) -> str:
    return html.escape(text)
