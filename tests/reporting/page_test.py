import base64
import gzip
import hashlib
import html.parser
import json
import re
from pathlib import Path

import pytest

from explainft import listops
from explainft.reporting import page, report
from explainft.reporting.runs import read_predictions, read_run
from tests.helpers.run_folders import (
    TEST,
    evaluation,
    prediction,
    write_lines,
    write_medium,
    write_t5x,
    write_two_configs,
)

TREE = "[SUM 7 [MIN 4 6 ] ]"
RIGHT = "Min, smallest number of [4, 6] is 4\nSUM, add [7, 4], sum is 11, answer is 1\nFinal answer: 1"
ROWS = [
    prediction(TREE, 1, RIGHT),
    prediction(TREE, 1, RIGHT.replace("is 4", "is 6")),
    prediction(TREE, 1, RIGHT.replace("Final answer: 1", "Final answer: 3")),
    prediction(TREE, 1, "Min, smallest number of [4, 6] is 4 SUM, add"),
    prediction("[MAX 1 2 ]", 2, "2", "none"),
]
HOSTILE = """</script><img src=x onerror=alert(1)><!--<script>`${1}'\\\""""


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
    data, *sets, _ = Page(text).texts["script"]
    return json.loads(data), [json.loads(gzip.decompress(base64.b64decode(packed))) for packed in sets]


@pytest.fixture
def medium(tmp_path) -> Path:
    run = write_medium(tmp_path)
    write_lines(run / f"inference_eval/{TEST}-000020.jsonl", ROWS)
    return run


@pytest.fixture
def t5x(tmp_path) -> Path:
    return write_t5x(tmp_path)


def test_nothing_in_the_page_is_loaded_from_elsewhere(medium, t5x):
    text = document(medium, t5x)
    for tag, attributes in Page(text).elements:
        assert not {"src", "srcset", "action", "poster"} & attributes.keys()
        assert attributes.get("href", "#").startswith(("#", "data:")), (tag, attributes)
        assert tag not in ("iframe", "object", "embed", "base", "img")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_the_policy_allows_our_script_alone(medium):
    found = Page(document(medium))
    [policy] = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    *_, script = found.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]


def test_every_placeholder_is_filled(medium):
    text = document(medium)
    assert not re.search(r"<!-- \w+ -->", text)
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    script = Page(text).texts["script"][-1]
    assert set(re.findall(r'byId\("([\w-]+)"\)', script)) <= set(ids)


def test_controls_are_labelled_and_sections_named(medium):
    text = document(medium)
    found = Page(text)
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("main")) == len(found.all("header")) == len(found.all("nav")) == len(found.all("h1")) == 1
    ids = {attributes["id"] for _, attributes in found.elements if "id" in attributes}
    for section in found.all("section"):
        assert section["aria-labelledby"] in ids
    controls = len(found.all("select")) + len(found.all("input"))
    assert controls == len(re.findall(r"<label[^>]*>[A-Z][\w ]+ <(?:select|input)", text)) == 7
    for _, attributes in found.elements:
        if attributes.get("tabindex") == "0":  # what scrolls can be reached by keyboard, and says what it is
            assert attributes["role"] == "region" and attributes["aria-label"]
    [count] = [attributes for attributes in found.all("p") if attributes.get("id") == "count"]
    assert count["aria-live"] == "polite"


def test_the_tables_have_the_numbers(medium, t5x):
    found = Page(document(medium, t5x))
    cells = found.texts["td"]
    for text in ("87.5%[75.0, 93.8]n = 100", "62.5%[50.0, 68.8]n = 100", "37.5%[25.0, 43.8]n = 100", "–"):
        assert text in cells, text
    for row in report.rows([read_run(medium), read_run(t5x)]):
        assert set(row) <= set(cells)
    lead = next(text for text in found.texts["p"] if text.startswith("Final answers right"))
    assert lead == "Final answers right on test: medium 62.5% [50.0, 68.8]."


def test_the_best_of_many_runs_are_named_first(tmp_path):
    for i in range(7):
        write_lines(
            tmp_path / f"seed-{i}/inference_eval/a_eval_test-metrics.jsonl", [{"step": 1, "exact_match": i / 8}]
        )
    text = document(*sorted(tmp_path.iterdir()))
    lead = next(text for text in Page(text).texts["p"] if text.startswith("Final answers right"))
    assert "seed-6 75.0%, seed-5 62.5%, seed-4 50.0%, seed-3 37.5%, and 3 more." in lead


def test_the_curves_have_every_axis_that_is_known(medium, t5x):
    data, _ = embedded(document(medium, t5x))
    ours, theirs = data["curves"]
    assert [point["step"] for point in ours["points"]] == [5, 15, 30]
    assert [point["examples"] for point in ours["points"]] == [500, 2000, 5000]
    assert [point["seconds"] for point in ours["points"]] == [15, 45, 90]
    assert [point["flops"] for point in ours["points"]] == [None] * 3
    assert [point["share"] for point in theirs["points"]] == [0.125, 0.375]
    assert {point[axis] for point in theirs["points"] for axis in ("examples", "seconds", "flops")} == {None}


def test_groups_have_intervals_in_the_order_of_their_numbers(medium):
    data, _ = embedded(document(medium))
    [test] = data["evaluations"]
    assert [group["name"] for group in test["groups"]["depth"]] == ["2", "10"]
    assert [group["name"] for group in test["groups"]["length"]] == ["5-9", "20-24"]
    [mx, sm] = test["groups"]["operator"]
    assert (mx["name"], mx["share"], mx["n"]) == ("MAX", 0.75, 40) and 0.59 < mx["low"] < 0.75 < mx["high"] < 0.86
    assert (sm["name"], sm["share"], sm["n"]) == ("SUM", 0.5, 60)


def test_each_prediction_has_what_the_explorer_shows(medium):
    data, [rows] = embedded(document(medium))
    assert data["sets"] == [
        {"run": 0, "task": TEST, "label": "medium", "split": "test", "step": 20, "style": "medium"}
        | {"total": 5, "shown": 5}
        | {"kinds": {"valid": 2, "operator": 0, "list": 0, "copy": 0, "arithmetic": 1, "malformed": 1, "answer": 1}}
    ]
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("valid", None), ("arithmetic", 0), ("answer", None), ("malformed", 1), ("valid", None),
    ]  # fmt: skip
    steps = RIGHT.split("\n")[:2]
    assert rows[2] == {
        "expression": TREE, "values": ["4", "1"], "operator": "SUM", "depth": 2, "kind": "answer", "step": None,
        "gold": steps, "goldFinal": "Final answer: 1", "goldAnswer": "1",
        "steps": steps, "final": "Final answer: 3", "answer": "3",
    }  # fmt: skip
    assert rows[3]["steps"] == [steps[0], "SUM, add"] and rows[3]["final"] == "" and rows[3]["answer"] is None
    assert (rows[4]["steps"], rows[4]["final"], rows[4]["gold"], rows[4]["goldFinal"]) == ([], "2", [], "2")
    shares = [text for text in Page(document(medium)).texts["td"] if text in ("40.0%", "20.0%")]
    assert shares == ["40.0%", "20.0%", "20.0%", "20.0%"]


def test_the_control_of_shuffled_lines_counts_by_its_answer(t5x):
    text = "\n".join([*reversed(RIGHT.split("\n")[:2]), "Final answer: 1"])
    write_lines(t5x / "inference_eval/a_eval_test-000010.jsonl", [prediction(TREE, 1, text, "shuffled")])
    _, [[row]] = embedded(document(t5x))
    assert (row["kind"], row["steps"], row["final"]) == ("valid", [], text)


def test_hostile_text_stays_text(tmp_path):
    name, task = (f"{word} {HOSTILE.replace('/', '')}" for word in ("run", "task"))  # no "/" in a file's name
    folder = tmp_path / name / "inference_eval"
    group = {f"exact_match/operator/{HOSTILE}": 0.5}
    write_lines(folder / f"{task}_eval_test-metrics.jsonl", [evaluation(1, 0.5, **group)])
    write_lines(folder / f"{task}_eval_test-000001.jsonl", [prediction(TREE, 1, HOSTILE)])
    text = document(folder.parent)
    found = Page(text)
    assert not found.all("img") and len(found.all("script")) == 3
    assert not [attributes for _, attributes in found.elements if "onerror" in attributes]
    data, [[row]] = embedded(text)
    assert row["steps"] == [HOSTILE]
    assert data["runs"][0]["name"] == name
    assert data["evaluations"][0]["groups"]["operator"][0]["name"] == HOSTILE
    assert name in found.texts["th"] and f"{task}_eval_test" in found.texts["td"]


def test_a_folder_of_t5x_alone(t5x):
    data, sets = embedded(document(t5x))
    assert sets == data["sets"] == []
    assert len(data["curves"]) == 1


def test_runs_without_evaluations(tmp_path):
    write_lines(tmp_path / "run/metrics.jsonl", [{"step": 10, "examples": 640, "seconds": 3.0}])
    text = document(tmp_path / "run")
    assert "These runs have no evaluations yet." in Page(text).texts["p"]
    assert embedded(text)[0]["curves"] == []


def test_two_thousand_predictions_are_kept_and_what_is_cut_is_told(t5x):
    trees = [listops.parse(f"[SUM {i % 10} [MED {i // 10 % 10} {i // 100 % 10} 3 ] {i // 1000} ]") for i in range(2500)]
    lines = [
        prediction(listops.format(tree), listops.evaluate(tree), listops.explain(tree, "long"), "long")
        for tree in trees
    ]
    write_lines(t5x / "inference_eval/a_eval_test-000010.jsonl", lines)
    text = document(t5x)
    data, [rows] = embedded(text)
    assert len(rows) == 2000
    assert (data["sets"][0]["total"], data["sets"][0]["shown"]) == (2500, 2000)
    assert data["sets"][0]["kinds"]["valid"] == 2500  # the shares are of all
    assert len(text) < 500_000


def test_the_same_runs_give_the_same_page_at_any_time(medium, monkeypatch):
    text = document(medium)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert document(medium) == text


def test_a_run_is_told_by_its_variant_where_it_has_two_validation_tasks(medium):
    write_lines(medium / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(5, 0.5)])
    data, _ = embedded(document(medium))
    assert [curve["label"] for curve in data["curves"]] == ["medium", "medium x"]


def test_a_share_stands_in_a_cell_that_names_its_kind(medium):
    cells = [cell for cell in Page(document(medium)).all("td") if "data-label" in cell]
    assert [cell["data-label"] for cell in cells] == ["valid", "wrong arithmetic", "malformed", "wrong answer", "n"]
    assert [cell.get("class") for cell in cells[:2]] == ["kind-valid", "kind-arithmetic"]


def test_the_splits_of_two_configs_have_the_same_names_everywhere(tmp_path):
    text = document(write_two_configs(tmp_path))
    found, (data, _) = Page(text), embedded(text)
    own = ["validation", "test", "larger numbers"]
    others = ["tiny_25_96 validation", "tiny_25_96 test", "tiny_25_96 larger numbers"]
    assert data["splits"] == [*own, *others]
    assert set(data["splits"]) <= set(found.texts["th"])
    places = [("medium", split) for split in (*own[1:], *others)] + [("medium explained_tiny_without_sum", "test")]
    assert [(about["label"], about["split"]) for about in data["sets"]] == places
    assert [text for text in found.texts["th"] if text in {" ".join(place) for place in places}] == [
        " ".join(place) for place in places
    ]
    shown = {(evaluation["label"], evaluation["split"]) for evaluation in data["evaluations"]}
    assert shown == set(places)
    assert [curve["label"] for curve in data["curves"]] == ["medium"]
    lead = next(text for text in found.texts["p"] if text.startswith("Final answers right"))
    assert lead.startswith("Final answers right on test: medium 62.5% [50.0, 68.8], medium explained_tiny_without_sum")
