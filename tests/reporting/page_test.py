import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from explainft import listops
from explainft.reporting import page, report
from explainft.reporting.runs import read_run
from tests.helpers.documents import Page, document, embedded
from tests.helpers.run_directories import (
    TEST,
    evaluation,
    prediction,
    write_lines,
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


@pytest.fixture
def medium(medium) -> Path:
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", ROWS)
    return medium


def test_nothing_in_the_page_is_loaded_from_elsewhere(medium, t5x):
    text = document(medium, t5x)
    for tag, attributes in Page(text).elements:
        assert not {"src", "srcset", "action", "poster"} & attributes.keys()
        assert attributes.get("href", "#").startswith(("#", "data:")), (tag, attributes)
        assert tag not in ("iframe", "object", "embed", "base", "img")
    own = text.replace(
        page.vega_script(), ""
    )  # Vega can load data; these charts hold theirs, and the policy forbids it
    assert len(own) < len(text)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", own)
    assert set(re.findall(r"https?://[^\"' ]*", own)) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_policy_allows_our_scripts_alone(medium):
    found = Page(document(medium))
    [policy] = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    *_, vega, script = found.texts["script"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, vega)]
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert vega == page.vega_script() and "vegaEmbed" in vega
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
    assert controls == len(re.findall(r"<label[^>]*>[A-Z][\w ]+ <(?:select|input)", text)) == 5
    for _, attributes in found.elements:
        if attributes.get("tabindex") == "0":  # what scrolls can be reached by keyboard, and says what it is
            assert attributes["role"] == "region" and attributes["aria-label"]
    [count] = [attributes for attributes in found.all("p") if attributes.get("id") == "count"]
    assert count["aria-live"] == "polite"


def test_tables_have_the_numbers(medium, t5x):
    found = Page(document(medium, t5x))
    cells = found.texts["td"]
    for text in ("87.5%[75.0, 93.8]n = 100", "62.5%[50.0, 68.8]n = 100", "37.5%[25.0, 43.8]n = 100", "–"):
        assert text in cells, text
    for row in report.rows([read_run(medium), read_run(t5x)]):
        assert set(row) <= set(cells)
    lead = next(text for text in found.texts["p"] if text.startswith("Exact match on"))
    assert lead == "Exact match on test: medium 62.5% [50.0, 68.8]."


def test_best_runs_are_named_first(tmp_path):
    for i in range(7):
        write_lines(
            tmp_path / f"seed-{i}/inference_eval/a_eval_test-metrics.jsonl", [{"step": 1, "exact_match": i / 8}]
        )
    text = document(*sorted(tmp_path.iterdir()))
    lead = next(text for text in Page(text).texts["p"] if text.startswith("Exact match on"))
    assert "seed-6 75.0%, seed-5 62.5%, seed-4 50.0%, seed-3 37.5%, and 3 more." in lead


def points(chart: dict) -> list[tuple[str, float, float]]:
    return [(row["run"], row["x"], row["exact match"]) for rows in chart["spec"]["datasets"].values() for row in rows]


def test_curves_have_every_axis_that_is_known(medium, t5x):
    data, _ = embedded(document(medium, t5x))
    training = data["training"]
    assert training.keys() == {"step", "examples", "seconds"}
    ours = [("medium", x, y) for x, y in ((5, 0.25), (15, 0.5), (30, 0.875))]
    assert points(training["step"]) == [*ours, ("t5x", 1000, 0.125), ("t5x", 2000, 0.375)]
    assert points(training["examples"]) == [("medium", x, y) for x, y in ((500, 0.25), (2000, 0.5), (5000, 0.875))]
    assert points(training["seconds"]) == [("medium", x, y) for x, y in ((0.25, 0.25), (0.75, 0.5), (1.5, 0.875))]
    assert training["step"]["missing"] == [] and training["examples"]["missing"] == ["t5x"]
    assert training["examples"]["rows"][1] == ["medium", "2,000", "50.0%", "37.5% – 56.2%", "–"]
    assert [item["label"] for item in training["step"]["key"]] == ["medium", "t5x"]


def test_chart_fits_its_place(medium):
    data, _ = embedded(document(medium))
    panels = [panel for chart in data["groups"].values() for panel in chart["panels"]]
    for chart in (*data["training"].values(), *panels):
        assert chart["spec"]["autosize"]["type"] == "fit-x" and '"container"' in json.dumps(chart["spec"])


def test_groups_have_intervals_in_the_order_of_their_numbers(medium):
    data, _ = embedded(document(medium))
    operators, depths, lengths = data["groups"]["test"]["panels"]
    assert [row[1] for row in depths["rows"]] == ["2", "10"]
    assert [row[1] for row in lengths["rows"]] == ["5-9", "20-24"]
    [[mx, sm]] = operators["spec"]["datasets"].values()
    assert (mx["name"], mx["accuracy"], mx["n"]) == ("MAX", 0.75, 40)
    assert 0.59 < mx["low"] < 0.75 < mx["high"] < 0.86
    assert (sm["name"], sm["accuracy"], sm["n"]) == ("SUM", 0.5, 60)
    assert operators["rows"][1][:3] == ["medium", "SUM", "50.0%"] and operators["rows"][1][4] == "60"


def test_prediction_has_what_the_explorer_shows(medium):
    data, [rows] = embedded(document(medium))
    assert data["sets"] == [
        {"run": 0, "task": TEST, "label": "medium", "split": "test", "step": 20, "explains": True, "listops": True}
        | {"total": 5, "shown": 5, "groups": {"operator": "last operator", "depth": "depth"}}
        | {"kinds": {"valid": 2, "arithmetic": 1, "malformed": 1, "answer": 1}}
    ]
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("valid", None), ("arithmetic", 0), ("answer", None), ("malformed", 1), ("valid", None),
    ]  # fmt: skip
    steps = RIGHT.split("\n")[:2]
    assert rows[2] == {
        "expression": TREE, "values": ["4", "1"], "groups": {"operator": "SUM", "depth": "2"},
        "kind": "answer", "step": None,
        "gold": steps, "goldFinal": "Final answer: 1", "goldAnswer": "1",
        "steps": steps, "final": "Final answer: 3", "answer": "3", "correct": False,
    }  # fmt: skip
    assert rows[3]["steps"] == [steps[0], "SUM, add"] and rows[3]["final"] == "" and rows[3]["answer"] is None
    assert (rows[4]["steps"], rows[4]["final"], rows[4]["gold"], rows[4]["goldFinal"]) == ([], "2", [], "2")
    fractions = [text for text in Page(document(medium)).texts["td"] if text in ("40.0%", "20.0%")]
    assert fractions == ["40.0%", "20.0%", "20.0%", "20.0%"]


def test_shuffled_style_is_scored_by_its_answer(t5x):
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
    assert not found.all("img") and len(found.all("script")) == 4
    assert not [attributes for _, attributes in found.elements if "onerror" in attributes]
    data, [[row]] = embedded(text)
    assert row["steps"] == [HOSTILE]
    [split] = data["groups"]
    assert data["groups"][split]["key"][0]["label"].startswith(name)
    assert data["groups"][split]["panels"][0]["rows"][0][1] == HOSTILE
    assert name in found.texts["th"] and f"{task}_eval_test" in found.texts["td"]


def test_t5x_directory_alone(t5x):
    data, sets = embedded(document(t5x))
    assert sets == data["sets"] == []
    assert data["training"].keys() == {"step"} and len(data["training"]["step"]["key"]) == 1


def test_runs_without_evaluations(tmp_path):
    write_lines(tmp_path / "run/metrics.jsonl", [{"step": 10, "examples": 640, "seconds": 3.0}])
    text = document(tmp_path / "run")
    assert "These runs have no evaluations yet." in Page(text).texts["p"]
    assert embedded(text)[0]["training"] == {}


def test_page_keeps_2000_predictions_and_counts_all(t5x):
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
    assert data["sets"][0]["kinds"]["valid"] == 2500  # the fractions are of all
    assert len(text.replace(page.vega_script(), "")) < 500_000


def test_page_is_deterministic(medium, monkeypatch):
    text = document(medium)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert document(medium) == text


def test_two_validation_tasks_have_two_labels(medium):
    write_lines(medium / "inference_eval/x_eval_validation-metrics.jsonl", [evaluation(5, 0.5)])
    data, _ = embedded(document(medium))
    assert [item["label"] for item in data["training"]["step"]["key"]] == ["medium", "medium x"]


def test_fraction_has_a_cell_that_names_its_kind(medium):
    cells = [cell for cell in Page(document(medium)).all("td") if "data-label" in cell]
    assert [cell["data-label"] for cell in cells] == ["valid", "wrong arithmetic", "malformed", "wrong answer", "n"]
    assert [cell.get("class") for cell in cells[:2]] == ["kind-valid", "kind-arithmetic"]


def test_splits_of_two_configs_have_the_same_names_everywhere(tmp_path):
    text = document(write_two_configs(tmp_path))
    found, (data, _) = Page(text), embedded(text)
    own = ["validation", "test", "larger numbers"]
    others = ["tiny_25_96 validation", "tiny_25_96 test", "tiny_25_96 larger numbers"]
    assert {*own, *others} <= set(found.texts["th"])
    assert list(data["groups"]) == [*own[1:], *others]
    places = [("medium", split) for split in (*own[1:], *others)] + [("medium explained_tiny_without_sum", "test")]
    assert [(about["label"], about["split"]) for about in data["sets"]] == places
    assert [text for text in found.texts["th"] if text in {" ".join(place) for place in places}] == [
        " ".join(place) for place in places
    ]
    shown = {(item["label"], split) for split, chart in data["groups"].items() for item in chart["key"]}
    assert shown == set(places)
    assert [item["label"] for item in data["training"]["step"]["key"]] == ["medium"]
    lead = next(text for text in found.texts["p"] if text.startswith("Exact match on"))
    assert lead.startswith("Exact match on test: medium 62.5% [50.0, 68.8], medium explained_tiny_without_sum")
