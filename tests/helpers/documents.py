"""What an HTML parser sees of the report's page."""

import base64
import gzip
import html.parser
import json
from pathlib import Path

from explainft.reporting import page, report
from explainft.reporting.predictions import read_predictions
from explainft.reporting.runs import read_run


class Page(html.parser.HTMLParser):
    """What an HTML parser sees: elements with their attributes, and the text of each script, table and paragraph."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "td", "th", "p", "title"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def document(*folders: Path) -> str:
    runs = [read_run(folder) for folder in folders]
    return page.document(runs, [read_predictions(run) for run in runs], report.HEADER, report.rows(runs))


def embedded(text: str) -> tuple[dict, list[list[dict]]]:
    """The data, and the rows of each set of predictions."""
    data, *sets, _, _ = Page(text).texts["script"]
    return json.loads(data), [json.loads(gzip.decompress(base64.b64decode(packed))) for packed in sets]
