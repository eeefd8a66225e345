"""The page's data of imported questions."""

import json

import pytest

from tests.helpers.documents import Page, document, embedded
from tests.helpers.question_runs import HOSTILE, OWL, PEN, question_prediction, write_questions
from tests.helpers.run_directories import TEST, prediction, write_lines


@pytest.fixture
def homes(tmp_path):
    return write_questions(tmp_path, "homes")


@pytest.fixture
def sums(tmp_path):
    return write_questions(tmp_path, "sums")


def rows_of(run, lines: list[dict]) -> list[dict]:
    """The rows of the page of a run with these predictions alone."""
    for file in (run / "inference_eval").glob("*-000030.jsonl"):
        file.unlink()
    write_lines(run / "inference_eval/explained_own_explain_answer_eval_test-000030.jsonl", lines)
    _, [rows] = embedded(document(run))
    return rows


def test_row_has_what_the_explorer_shows(homes):
    data, [_, rows] = embedded(document(homes))
    assert data["sets"][1]["groups"] == {"choices": "number of choices"}
    assert (data["sets"][1]["explains"], data["sets"][1]["listops"]) == (True, False)
    assert data["sets"][1]["kinds"] == {"correct": 2, "answer": 1, "unanswered": 1, "cut": 1}
    gold = "Owls sleep by day.\nThey sit on branches then."
    assert rows[2] == {
        "question": "Where does an owl sleep?\nIt is noon.",
        "form": "explain_answer",
        "groups": {"choices": "3"},
        "choices": [
            {"letter": "(a)", "text": "a lake", "gold": False, "said": True},
            {"letter": "(b)", "text": "a tree", "gold": True, "said": False},
            {"letter": "(c)", "text": "a road", "gold": False, "said": False},
        ],
        "explanation": gold.replace("sleep", "swim"),
        "gold": gold,
        "final": "The answer is a lake",
        "goldFinal": "The answer is a tree",
        "answer": "a lake",
        "goldAnswer": "a tree",
        "correct": False,
        "kind": "answer",
        "step": None,
        "id": "h-1",
        "fields": [["topic", "birds"], ["sources", '["field guide"]']],
    }
    assert (rows[1]["answer"], rows[1]["correct"], rows[1]["final"]) == ("a tree", True, "The answer is (b)")
    assert (rows[4]["cut"], rows[4]["answer"], rows[4]["final"]) == (True, None, "")


def test_place_of_the_first_wrong_step_counts_as_javascript_does(sums):
    _, [_, rows] = embedded(document(sums))
    assert [("place" in row, row["kind"] == "step") for row in rows] == [(i in (1, 2, 3),) * 2 for i in range(7)]
    text = rows[2]["explanation"].encode("utf-16-le")
    start, end = rows[2]["place"]
    assert text[2 * start : 2 * end].decode("utf-16-le") == "3 * 4 = 13" and "😀" in rows[2]["explanation"]


@pytest.mark.parametrize(
    ("form", "output", "parts"),
    [
        ("answer", "12", ("", "12", "12")),
        ("answer_explain", "The answer is 12\nThey cost 3.", ("They cost 3.", "The answer is 12", "The answer is 12")),
        ("explain_answer", "They cost 12 crowns", ("They cost 12 crowns", "", "The answer is 12")),
    ],
)
def test_forms(sums, form, output, parts):
    [row] = rows_of(sums, [question_prediction(PEN, "math", (output, False), form)])
    assert (row["explanation"], row["final"], row["goldFinal"]) == parts
    assert (row["answer"], row["correct"]) == ("12", True)


def test_fields_of_any_kind(sums):
    line = question_prediction(PEN, "text", ("12", False))
    line["target"]["example"] |= {"long": "x" * 5000, "none": None, HOSTILE: {"a": [HOSTILE]}}
    del line["target"]["example"]["id"], line["target"]["example"]["explanation"]
    [row] = rows_of(sums, [line])
    fields = dict(row["fields"])
    assert len(fields["long"]) < 1100 and fields["none"] == "null" and json.loads(fields[HOSTILE]) == {"a": [HOSTILE]}
    assert (row["id"], row["gold"], row["choices"]) == ("", "", [])


def test_lone_surrogates_reach_the_page(sums):
    line = question_prediction(PEN, "math", ("\ud800 3 * 4 = 13", False))
    [row] = rows_of(sums, [line])
    assert (row["explanation"], row["place"]) == ("\ud800 3 * 4 = 13", [2, 12])


def test_text_of_questions_stays_data(homes):
    found = Page(document(homes))
    assert not found.all("img") and not [attributes for _, attributes in found.elements if "onerror" in attributes]


def test_chance_and_kinds_in_the_tables(homes, sums):
    found = Page(document(homes, sums))
    assert "40.0%[11.8, 76.9]n = 5chance 40.0%" in found.texts["td"]
    lead = next(text for text in found.texts["p"] if text.startswith("Exact match on"))
    assert lead == "Exact match on test: homes 40.0% [11.8, 76.9] (chance 40.0%), sums 28.6% [8.2, 64.1]."
    kinds = [cell["class"] for cell in found.all("th") if "class" in cell]
    assert kinds == ["kind-correct", "kind-step", "kind-answer", "kind-unanswered", "kind-cut"]
    style = document(homes)
    assert ".kind-cut { --kind" in style and ".kind-valid { --kind" not in style


def test_groups_and_chance_in_the_charts(homes, sums):
    data, _ = embedded(document(homes, sums))
    columns = [panel["columns"][1] for panel in data["groups"]["test"]["panels"]]
    assert columns == ["number of choices", "subject", "level"]
    assert [row[-1] for row in data["training"]["step"]["rows"]] == ["37.5%", "37.5%", "40.0%", "–", "–", "–"]


def test_listops_and_questions_in_one_report(homes, medium):
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", [prediction("[MIN 4 7 ]", 4, "4", "none")])
    data, sets = embedded(document(homes, medium))
    assert [about["listops"] for about in data["sets"]] == [False, False, True]
    assert list(data["kinds"]) == ["valid", "correct", "answer", "unanswered", "cut"]
    assert "expression" in sets[2][0] and "question" in sets[1][0]


def test_question_without_choices_or_explanation(sums):
    row = {**OWL, "choices": [], "explanation": ""}
    [shown] = rows_of(sums, [question_prediction(row, "text", ("The answer is a tree", False))])
    assert (shown["choices"], shown["gold"], shown["kind"]) == ([], "", "correct")
