"""The predictions of imported questions in headless Chromium: python -m pytest -m browser."""

from pathlib import Path

import pytest

from explainft.reporting import report
from tests.helpers.pages import count, filled_in, low_contrast, quiet, select
from tests.helpers.question_runs import HOSTILE, write_questions
from tests.helpers.run_directories import TEST, prediction, write_lines, write_medium

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    medium = write_medium(folder)
    trees = ["[MIN 4 7 ]", "[MAX 4 7 [MIN 1 2 ] ]"]
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", [prediction(tree, 4, "4", "none") for tree in trees])
    report.write_report([*(write_questions(folder, name) for name in ("homes", "sums")), medium], folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture
def desktop(opened, written):
    return opened(written)


def show(tab, name: str) -> None:
    """Chooses the predictions on test of a run."""
    options = "[...document.querySelector('[name=set]').options]"
    index = tab.value(f"{options}.findIndex((o) => o.textContent.startsWith('{name} · test'))")
    tab.value(filled_in("set", str(index)))
    tab.until(f"document.getElementById('results').dataset.set === '{index}'")


def open_row(tab, number: int) -> None:
    tab.value(f"[...document.querySelectorAll('.row')].find((e) => e.textContent.startsWith('#{number}')).click()")


def texts(tab, selector: str) -> list[str]:
    return tab.value(f"[...document.querySelectorAll({selector!r})].map((e) => e.textContent)")


def test_row_names_question_verdict_and_answer(desktop, written):
    show(desktop, "homes")
    assert texts(desktop, ".row .first-line")[0] == "Where does an owl sleep?"
    labels = ["correct", "correct", "wrong answer", "no answer", "cut"]
    assert texts(desktop, ".row .label") == labels
    said = ["✓ a tree", "✓ a tree", "✗ a lake (reference: a tree)", *["✗ none (reference: a den)"] * 2]
    assert texts(desktop, ".row .said") == said
    quiet(desktop, written)


def test_choices_are_marked(desktop, screenshot):
    show(desktop, "homes")
    open_row(desktop, 3)
    assert texts(desktop, ".choices li") == ["(a) a lake✗ model", "(b) a tree✓ reference", "(c) a road"]
    assert texts(desktop, ".choices .gold") == ["(b) a tree✓ reference"]
    assert desktop.value("document.querySelector('.question').innerText") == "Where does an owl sleep?\nIt is noon."
    assert texts(desktop, ".fields dt") == ["id", "topic", "sources"]
    assert texts(desktop, ".fields dd") == ["h-1", "birds", '["field guide"]']
    screenshot(desktop, "choice.png")
    open_row(desktop, 3)
    open_row(desktop, 2)
    assert texts(desktop, ".choices li")[1] == "(b) a tree✓ reference✓ model"


def test_explanations_are_aligned(desktop):
    show(desktop, "homes")
    open_row(desktop, 3)
    assert texts(desktop, ".steps tbody mark") == ["swim", "sleep", "lake", "tree"]
    assert texts(desktop, ".steps .first th") == ["answer"]
    assert texts(desktop, ".steps .verdict") == ["✗ first error: wrong answer"]
    open_row(desktop, 3)
    open_row(desktop, 2)  # without the second line
    assert texts(desktop, ".steps td:nth-child(2)")[1] == "nothing"
    assert texts(desktop, ".steps tr.same th") == ["line 1"]


def test_missing_line_leaves_a_gap(desktop):
    mine, its = "so 3 + 4 = 7 apples\\n\\nthen 9 pears", "first of all\\nso 3 + 4 = 8 apples\\nthen 9 pears"
    aligned = f"align(linesOf('{mine}'), linesOf('{its}'))"
    lines = desktop.value(f"{aligned}.map((pair) => pair.map((line) => line && line.text))")
    assert lines == [
        [None, "first of all"],
        ["so 3 + 4 = 7 apples", "so 3 + 4 = 8 apples"],
        ["then 9 pears", "then 9 pears"],
    ]


def test_first_wrong_equation_is_marked(desktop, screenshot):
    show(desktop, "sums")
    open_row(desktop, 2)
    assert texts(desktop, ".steps .first th") == ["line 2"]
    assert texts(desktop, ".steps .first td:nth-child(2) mark") == ["7 - 2 = 4"]
    assert texts(desktop, ".steps .verdict") == ["✗ first error: wrong step"]
    screenshot(desktop, "equation.png")
    open_row(desktop, 2)
    open_row(desktop, 3)  # after a character of two units
    assert texts(desktop, ".steps .first td:nth-child(2) mark") == ["3 * 4 = 13"]


def test_cut_is_noted(desktop):
    show(desktop, "homes")
    open_row(desktop, 5)
    assert texts(desktop, ".cut-note") == ["✂ The output was cut at the length limit."]
    assert texts(desktop, ".steps .verdict") == ["✂ cut at the length limit"]
    show(desktop, "sums")
    open_row(desktop, 4)
    assert texts(desktop, ".cut-note") and texts(desktop, ".steps .verdict") == ["✗ first error: wrong step"]


def test_answer_without_a_statement(desktop):
    show(desktop, "sums")
    open_row(desktop, 4)
    assert texts(desktop, ".steps tr:last-child td") == ["read from the output: 8", "The answer is 5"]


def test_output_is_shown_as_text(desktop, written):
    show(desktop, "homes")
    open_row(desktop, 4)
    assert HOSTILE in texts(desktop, ".steps td")[0]
    assert desktop.value("document.images.length") == 0
    quiet(desktop, written)


def test_filters_suit_the_problem(desktop, written):
    def labels() -> list[str]:
        names = "[...document.querySelectorAll('#group-filters label')].map((e) => e.firstChild.textContent.trim())"
        return desktop.value(names)

    show(desktop, "homes")
    assert labels() == ["Number of choices"]
    placeholder = "document.querySelector('[name=search]').placeholder"
    assert "question" in desktop.value(placeholder)
    assert texts(desktop, "[data-group=choices] option") == ["any", "2 (2)", "3 (3)"]
    show(desktop, "sums")
    assert labels() == ["Subject", "Level"]
    desktop.value("""(() => { const s = document.querySelector('[data-group=subject]'); s.value = 'Prices';
      s.dispatchEvent(new Event('change')); })()""")
    assert count(desktop) == "4 of 7 predictions"
    select(desktop, "answer", "correct")
    assert count(desktop) == "0 of 7 predictions"
    desktop.value("document.querySelector('[type=reset]').click()")
    assert count(desktop) == "7 of 7 predictions"
    select(desktop, "kind", "step")
    select(desktop, "answer", "correct")
    assert count(desktop) == "1 of 7 predictions"
    show(desktop, "medium")
    assert labels() == ["Last operator", "Depth"]
    assert "[MED" in desktop.value(placeholder)
    quiet(desktop, written)


@pytest.mark.parametrize(
    ("words", "n"), [("H-1", 3), ("owl sleep", 3), ("Owls swim", 1), ("foxes DIG", 1), ("a  nest", 2), ("dragon", 0)]
)
def test_search_finds_question_output_and_id(desktop, words, n):
    show(desktop, "homes")
    desktop.value(filled_in("search", words, "input"))
    assert count(desktop) == f"{n} of 5 predictions"


def test_kinds_that_occur_have_a_meaning(desktop):
    labels = ["valid", "correct", "malformed", "wrong step", "wrong answer", "no answer", "cut"]
    shown = [text.removesuffix(": ") for text in texts(desktop, "#meanings dt")]
    assert shown == [label for label in labels if label in shown] and {"correct", "cut"} <= set(shown)
    assert "wrong list" not in shown


def test_chance_is_drawn(desktop):
    assert texts(desktop, "#curves .role-mark.mark-text text") == ["chance 40.0%"]
    dashes = "document.querySelector('#curves .role-mark.mark-rule line').getAttribute('stroke-dasharray')"
    assert desktop.value(dashes) == "6,4"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["homes", "sums"])
def test_text_contrasts_with_its_ground(opened, written, name, dark, screenshot):
    tab = opened(written, dark=dark)
    show(tab, name)
    for number in range(1, 6):
        open_row(tab, number)
    assert low_contrast(tab) == []
    tab.value("document.getElementById('explorer').scrollIntoView({behavior: 'instant'})")
    screenshot(tab, f"{name}_{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("width", [320, 390])
def test_phone_needs_no_sideways_scrolling(opened, written, screenshot, width):
    tab = opened(written, width, 800, mobile=True)
    for name in ("homes", "sums"):
        show(tab, name)
        for number in range(1, 6):
            open_row(tab, number)
        assert tab.value("document.documentElement.scrollWidth") == width
    tab.value("document.querySelectorAll('.row')[2].scrollIntoView({behavior: 'instant'})")
    screenshot(tab, f"phone_question_{width}.png")
    quiet(tab, written)
