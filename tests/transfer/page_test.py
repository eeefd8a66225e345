"""The page and the pictures of a matrix."""

import json
import re

import pytest

from explainft.transfer import page
from explainft.transfer.columns import Column
from tests.helpers.transfer_runs import EVALUATIONS

N_TASKS = sum(map(len, EVALUATIONS.values()))


@pytest.fixture(scope="module")
def text(written):
    return (written / "transfer.html").read_text()


def test_every_cell_links_to_its_predictions(text):
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert len(data["sets"]) == 2 * N_TASKS == text.count('<script type="text/plain" id="set-')
    matrix = re.search(r'id="matrix".*?</table>', text, re.DOTALL)[0]
    assert [int(i) for i in re.findall(r'data-set="(\d+)"', matrix)] == list(range(2 * N_TASKS))
    assert all(about["shown"] == 8 for about in data["sets"])


def test_page_needs_no_other_file(text):
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text.replace("data-set", ""))


def test_groups_and_differences_are_shown(text, written):
    for group in EVALUATIONS:
        assert group in text
    data = json.loads((written / "transfer.json").read_text())
    changes = re.search(r'id="differences".*?</table>', text, re.DOTALL)[0]
    first = data["differences"][0]["value"]
    assert f"{100 * first:+.1f}".replace("-", "\u2212") in changes
    assert "shipped \u2212 start" in changes


def test_labels_cannot_become_html():
    assert "<img" not in page._column_head(Column("<img src=x>", "<img src=x>", 2, "task", "tasks"))


def test_heat_map_has_every_number(written):
    drawn = (written / "matrix.svg").read_text()
    data = json.loads((written / "transfer.json").read_text())
    for cell in data["cells"]:
        assert f">{cell['value']:.1%}<" in drawn
