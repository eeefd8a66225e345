"""What Vega makes of the charts of a report."""

import functools
from typing import Any

import altair as alt
import vl_convert

from explainft.reporting import vega


class Drawn:
    """A chart's description, and what Vega makes of it."""

    def __init__(self, chart):
        self.spec = vega.finished(chart)
        self.panels = [Drawn(_with_data(panel, chart.data)) for panel in getattr(chart, "hconcat", [])]

    @functools.cached_property
    def _items(self) -> list[tuple[str, dict[str, Any]]]:
        scene = vl_convert.vegalite_to_scenegraph(self.spec, vl_version=vega.VEGA_LITE)
        return list(_items(scene["scenegraph"]))

    def rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.spec["datasets"].values() for row in rows]

    def lines(self) -> dict[str, list[tuple[float, float]]]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows():
            if "exact match" in row:
                lines.setdefault(row["run"], []).append((row["x"], row["exact match"]))
        return lines

    def marks(self, kind: str) -> list[dict[str, Any]]:
        return [item for marktype, item in self._items if marktype == kind]

    def texts(self) -> list[str]:
        texts = [item["text"] for item in self.marks("text") if item.get("text")]
        return [line for text in texts for line in (text if isinstance(text, list) else [text])]

    def title(self) -> str:
        """Of the horizontal axis."""
        return next(layer for layer in _layers(self.spec) if "x" in layer["encoding"])["encoding"]["x"]["title"]


def _with_data(panel, shared):
    """A panel alone; what all panels have in common stands in the chart."""
    panel = panel.copy()
    panel.data = panel.data if shared is alt.Undefined else shared
    return panel


def _items(scene, marktype=None):
    for item in scene.get("items", []):
        if "items" in item:
            yield from _items(item, item.get("marktype"))
        elif marktype:
            yield marktype, item


def _layers(spec):
    return [inner for layer in spec["layer"] for inner in _layers(layer)] if "layer" in spec else [spec]


def symbols(drawn: Drawn) -> set[tuple[str, str]]:
    return {(item["fill"], item["shape"]) for item in drawn.marks("symbol")}


def named(texts: list[str]) -> list[str]:
    """The names of runs among the texts."""
    return [text for text in texts if text[0] in "●■▲◆"]
