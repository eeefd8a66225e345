"""The page of a report: one HTML file that needs no other file and no network.

Its tables are written here, as text for every browser; the scripts in web/ draw the curves and let the reader explore
the predictions. What a model wrote reaches the page as data only: packed, and shown by JavaScript as text.
"""

import base64
import gzip
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

from explainft import listops
from explainft.reporting.charts import KINDS, VALID, heat, interval, look
from explainft.reporting.runs import Metrics, Predictions, Row, Run, checked_style, grid, groups, row_and_split

MAX_ROWS = 2_000  # of a task's predictions in the page
SCRIPTS = ("page.js", "charts.js", "tree.js", "explorer.js")  # in the order in which they need each other
MEANINGS = {
    VALID: "every step and the final answer are right; where a task says nothing of steps (style none, and styles of "
    "one's own), the final answer alone is checked",
    **listops.ERROR_KINDS,
}


def document(
    runs: Sequence[Run],
    predictions: Sequence[Sequence[Predictions]],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> str:
    """The page; `predictions` are those of each run, `header` and `rows` the cells of the report's table."""
    splits, cells = grid(runs)
    sets = [_set(i, found) for i, of_run in enumerate(predictions) for found in of_run]
    data = {
        "runs": [{"name": run.name, "colour": look(i)[0], "turn": look(i)[1]} for i, run in enumerate(runs)],
        "kinds": {kind: {"label": label, "meaning": MEANINGS[kind]} for kind, (label, _) in KINDS.items()},
        "splits": splits,
        "evaluations": [
            e for row in cells for split, cell in row.cells.items() for e in _evaluation(row, split, *cell)
        ],
        "curves": [curve for i, run in enumerate(runs) for curve in _curves(i, run)],
        "sets": [about for about, _ in sets],
    }
    script = "\n".join(_part(name) for name in SCRIPTS)
    fields = {
        "policy": _policy(script),
        "style": _part("page.css") + _kind_colours(),
        "lead": _lead(splits, cells),
        "columns": str(len(splits)),
        "heatmap": _heatmap(splits, cells, [about for about, _ in sets]),
        "mistakes": _mistakes([about for about, _ in sets]),
        "table": _table(header, rows),
        "data": _json(data),
        "sets": "".join(
            f'<script type="text/plain" id="set-{i}">{packed}</script>\n' for i, (_, packed) in enumerate(sets)
        ),
        "script": script,
    }
    # One pass, so that no field is looked for in another one's text.
    return re.sub(r"<!-- (\w+) -->", lambda match: fields[match[1]], _part("page.html"))


def _part(name: str) -> str:
    return (resources.files("explainft.reporting") / "web" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Nothing from anywhere, and no script but ours: not even one that got into the page by a mistake of ours."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"


def _json(value: Any) -> str:
    """JSON in a script element, which `</script>` and `<!--` would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


# ---- data


def _set(run: int, found: Predictions) -> tuple[dict[str, Any], str]:
    """What the page says of a task's predictions, and the first MAX_ROWS of them: gzipped JSON in base64."""
    told = zip(found.targets, found.texts, found.mistakes, strict=True)
    rows = [_prediction(target, text, mistake) for target, text, mistake in told]
    counts = Counter(row["kind"] for row in rows)
    about = {
        "run": run,
        "task": found.task,
        "label": found.label,
        "split": found.split,
        "step": found.step,
        "style": found.targets[0]["style"],
        "total": len(rows),
        "shown": min(len(rows), MAX_ROWS),
        "kinds": {kind: counts[kind] for kind in KINDS},
    }
    packed = gzip.compress(json.dumps(rows[:MAX_ROWS], separators=(",", ":")).encode(), mtime=0)
    return about, base64.b64encode(packed).decode()


def _prediction(target: dict[str, Any], text: str, mistake: listops.FirstError | None) -> dict[str, Any]:
    tree = listops.parse(target["expression"])
    style = checked_style(target)
    modulus = target["modulus"]
    gold_steps, gold_final = _parts(listops.explain(tree, style, modulus), style)
    steps, final = _parts(text, style)
    operators = listops.operators(tree)
    answer = listops.final_answer(text)
    # Numbers as text: they may be larger than JavaScript's are exact.
    return {
        "expression": listops.format(tree),
        "values": [str(step.answer) for step in listops.steps(tree, "long", modulus)],
        "operator": operators[-1] if operators else "",
        "depth": listops.depth(tree),
        "gold": gold_steps,
        "goldFinal": gold_final,
        "steps": steps,
        "final": final,
        "answer": None if answer is None else str(answer),
        "goldAnswer": str(target["answer"]),
        "kind": mistake.kind if mistake else VALID,
        "step": mistake.step if mistake else None,
    }


def _parts(text: str, style: str) -> tuple[list[str], str]:
    """The lines that stand for steps, and the rest: the final answer."""
    lines = listops.lines(text)
    steps = len(listops.read(text, style).steps)
    return lines[:steps], "\n".join(lines[steps:])


def _evaluation(row: Row, split: str, task: str, step: int, metrics: Metrics) -> Iterator[dict[str, Any]]:
    by_kind = {kind: [group._asdict() for group in groups(metrics, kind)] for kind in ("operator", "depth", "length")}
    if any(by_kind.values()):
        yield {"run": row.run, "label": row.label, "split": split, "task": task, "step": step, "groups": by_kind}


def _curves(index: int, run: Run) -> Iterator[dict[str, Any]]:
    """Validation during training; the place of each evaluation on every axis, null where it is not known."""
    for task, evaluations in run.evaluations.items():
        label, split = row_and_split(run, task)
        if split != "validation":
            continue
        points = [
            {
                **{column: run.at(step, column) for column in ("step", "examples", "flops", "seconds")},
                "share": metrics["exact_match"],
                "low": metrics.get("exact_match_low", metrics["exact_match"]),
                "high": metrics.get("exact_match_high", metrics["exact_match"]),
            }
            for step, metrics in evaluations.items()
            if "exact_match" in metrics
        ]
        yield {"run": index, "label": label, "points": points}


# ---- text


def _kind_colours() -> str:
    return "".join(f".kind-{kind} {{ --kind: {colour}; }}\n" for kind, (_, colour) in KINDS.items())


def _lead(splits: Sequence[str], rows: Sequence[Row]) -> str:
    """The result in a sentence: exact match of the best rows on the test split, or on the first that there is."""
    split = "test" if "test" in splits else next(iter(splits), "")
    found = [(row.label, row.cells[split][2]) for row in rows if "exact_match" in row.cells.get(split, ("", 0, {}))[2]]
    if not found:
        return "These runs have no evaluations yet."
    found.sort(key=lambda item: -item[1]["exact_match"])
    parts = [
        f"<strong>{_escape(label)} {_percent(m['exact_match'])}</strong> {interval(m)}".rstrip()
        for label, m in found[:4]
    ]
    if len(found) > 4:
        parts.append(f"and {len(found) - 4} more")
    return f"Final answers right on <em>{_escape(split)}</em>: {', '.join(parts)}."


def _heatmap(splits: Sequence[str], rows: Sequence[Row], sets: Sequence[dict[str, Any]]) -> str:
    # The roles stand there for a narrow screen, where the rows are laid out as no table has them.
    explored = {(about["run"], about["task"]): i for i, about in enumerate(sets)}
    head = "".join(f'<th role="columnheader" scope="col">{_escape(split)}</th>' for split in splits)
    body = []
    for row in rows:
        cells = []
        for split in splits:
            task, _, metrics = row.cells.get(split, ("", 0, {}))
            share = metrics.get("exact_match")
            fill, ink = heat(share)
            inner = "–" if share is None else _percent(share)
            if (i := explored.get((row.run, task))) is not None:
                label = f"{row.label}, {split}: {inner}; explore the predictions"
                inner = f'<a href="#explorer" data-set="{i}" aria-label="{_escape(label)}">{inner}</a>'
            below = [interval(metrics), f"n = {metrics['n']:,.0f}" if "n" in metrics else ""]
            small = "".join(f"<small>{text}</small>" for text in below if text)
            cells.append(f'<td role="cell" style="background:{fill};color:{ink}"><b>{inner}</b>{small}</td>')
        body.append(f'<tr role="row"><th role="rowheader" scope="row">{_escape(row.label)}</th>{"".join(cells)}</tr>')
    return (
        f'<thead role="rowgroup"><tr role="row"><td role="cell"></td>{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody>'
    )


def _mistakes(sets: Sequence[dict[str, Any]]) -> str:
    """A row for each set of predictions: a bar, and the share of each kind."""
    # Roles as in the heat map, for the same reason; a narrow screen shows labels beside the shares, and no dashes.
    head = "".join(
        f'<th role="columnheader" scope="col" class="kind-{kind}" title="{_escape(MEANINGS[kind])}">'
        f'<i class="swatch"></i>{label}</th>'
        for kind, (label, _) in KINDS.items()
    )
    body = []
    for about in sets:
        shares = {kind: count / about["total"] for kind, count in about["kinds"].items()}
        bar = "".join(
            f'<span class="kind-{kind}" style="width:{100 * share:.2f}%"></span>'
            for kind, share in shares.items()
            if share
        )
        cells = "".join(
            f'<td role="cell" class="kind-{kind}" data-label="{KINDS[kind][0]}">{_percent(share)}</td>'
            if share
            else '<td role="cell">–</td>'
            for kind, share in shares.items()
        )
        name = f"{_escape(about['label'])} <small>{_escape(about['split'])}</small>"
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


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _escape(text: str) -> str:
    return html.escape(text)
