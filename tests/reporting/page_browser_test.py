"""The page in headless Chromium, opened from its file: python -m pytest -m browser."""

import itertools
from pathlib import Path

import pytest

from explainft import listops
from explainft.listops.configs import CONFIGS, candidates
from explainft.reporting import page, report
from explainft.reporting.runs import read_run
from tests.helpers.pages import count, filled_in, low_contrast, quiet, select
from tests.helpers.run_directories import TEST, many_runs, prediction, write_lines, write_medium, write_t5x

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=alert(1)>"
N = 2500  # the page keeps 2,000


def wrong(explanation: str, i: int) -> str:
    """Every second explanation with one of four errors."""
    lines = explanation.split("\n")
    damaged = {
        1: [lines[0].replace(" is ", " is 9"), *lines[1:]],
        3: lines[1:],
        5: [HOSTILE, *lines[1:]],
        7: [*lines[:-1], "Final answer: 99"],
    }
    return "\n".join(damaged.get(i % 8, lines))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    medium = write_medium(folder)
    rows = []
    for i in range(N):
        tree = listops.parse(f"[MAX {i % 10} [MIN {i // 10 % 10} {i // 100 % 10} ] [MED {i // 1000} 3 5 ] 2 ]")
        text = wrong(listops.explain(tree, "medium"), i)
        rows.append(prediction(listops.format(tree), listops.evaluate(tree), text))
    write_lines(medium / f"inference_eval/{TEST}-000020.jsonl", rows)
    report.write_report([medium, write_t5x(folder)], folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture
def desktop(opened, written):
    return opened(written)


@pytest.fixture
def phone(opened, written):
    return opened(written, 375, 800, mobile=True)


def marks(kind: str) -> str:
    """The script that counts the marks of a kind in the training chart: lines, or symbols that stand for points."""
    return f"document.querySelectorAll('#curves .mark-{kind} path').length"


def test_page_loads_draws_and_requests_nothing(desktop, written, screenshot):
    assert desktop.value("document.title") == "explainft report"
    assert desktop.value(marks("line")) == 1  # T5X's run has steps alone
    assert desktop.value(marks("symbol")) == 3 and desktop.value(marks("area")) == 1
    assert desktop.value("document.querySelector('#curves .note').textContent").endswith(": t5x")
    desktop.until("document.querySelectorAll('#groups .mark-symbol path').length === 6")
    assert desktop.value("document.querySelectorAll('#groups .key li').length") == 1
    assert count(desktop) == "2,000 of 2,000 predictions; the page holds the first 2,000 of 2,500"
    assert desktop.value("document.querySelectorAll('.row').length") == 50
    screenshot(desktop, "desktop.png")
    quiet(desktop, written)


def test_charts_fill_their_places(desktop):
    inside = desktop.value("""[...document.querySelectorAll('.chart')].map((place) => {
      const [chart, host] = [place.querySelector('svg').getBoundingClientRect(), place.getBoundingClientRect()];
      return chart.width / host.width;
    })""")
    assert len(inside) == 4 and all(0.9 < fraction <= 1.01 for fraction in inside)


def test_axis_of_the_curves_can_be_chosen(desktop, written):
    desktop.value("document.querySelector('[name=axis][value=step]').click()")
    desktop.until(f"{marks('line')} === 2")
    assert desktop.value("document.querySelector('#curves .note')") is None
    quiet(desktop, written)


def test_point_has_a_tooltip(desktop, written):
    desktop.page.locator("#curves .mark-symbol path").first.hover()
    desktop.until("document.querySelector('#vg-tooltip-element.visible') !== null")
    text = desktop.value("document.getElementById('vg-tooltip-element').textContent")
    assert all(part in text for part in ("medium", "25.0%", "[12.5, 31.2]")), text
    quiet(desktop, written)


@pytest.mark.parametrize("dark", [False, True])
def test_charts_follow_the_colour_scheme(opened, written, screenshot, dark):
    tab = opened(written, dark=dark)
    label, ground = tab.value("""[
      getComputedStyle(document.querySelector('#curves .role-axis-label text')).fill,
      getComputedStyle(document.getElementById('training')).backgroundColor,
    ].map((colour) => colour.match(/[0-9]+/g).map(Number).reduce((a, b) => a + b))""")
    assert (label > 300 > ground) if dark else (label < 300 < ground)
    screenshot(tab, f"{'dark' if dark else 'light'}.png")
    quiet(tab, written)


def test_filters_narrow_the_list(desktop, written):
    select(desktop, "kind", "malformed")
    assert count(desktop).startswith("250 of 2,000 predictions")
    labels = desktop.value("[...document.querySelectorAll('.row .label')].map((e) => e.textContent)")
    assert set(labels) == {"malformed"}
    select(desktop, "kind", "")
    select(desktop, "answer", "incorrect")
    assert count(desktop).startswith("250 of 2,000")
    desktop.value("document.querySelector('[type=reset]').click()")
    assert count(desktop).startswith("2,000 of")
    desktop.value("document.querySelector('[name=search]').focus()")
    desktop.page.keyboard.insert_text("[max 7 [MIN 4  1 ]")
    assert count(desktop).startswith("2 of 2,000")  # blanks and capitals do not matter
    desktop.page.keyboard.insert_text("nowhere")
    assert count(desktop).startswith("0 of 2,000")
    assert desktop.value("document.querySelectorAll('.row').length") == 0
    quiet(desktop, written)


def test_search_waits_for_the_set_that_is_unpacked(opened, tmp_path):
    run = write_medium(tmp_path)
    for split in ("test", "longer"):
        rows = [prediction("[MIN 4 7 ]", 4, f"Min, smallest number of [4, 7] is 4\nFinal answer: 4 {split}")] * 2
        write_lines(run / f"inference_eval/explained_tiny_medium_eval_{split}_compact-000020.jsonl", rows)
    report.write_report([run], tmp_path / "report")
    desktop = opened(tmp_path / "report" / "report.html")
    desktop.value("""(() => {
      const [set, search] = ["set", "search"].map((name) => document.querySelector(`[name=${name}]`));
      set.selectedIndex = 1;
      set.dispatchEvent(new Event("change"));
      search.value = set.selectedOptions[0].textContent.includes("longer") ? "4test" : "4longer";
      search.dispatchEvent(new Event("input"));
    })()""")
    desktop.until("document.getElementById('count').textContent === '0 of 2 predictions'")
    quiet(desktop, tmp_path / "report" / "report.html")


def test_long_list_comes_in_pages(desktop):
    desktop.value("document.getElementById('more').click()")
    assert desktop.value("document.querySelectorAll('.row').length") == 100
    focused = desktop.value("document.activeElement.querySelector('.number').textContent")
    assert focused == "#51"


def test_example_opens_by_keyboard_and_marks_its_first_error(desktop, written, screenshot):
    select(desktop, "kind", "arithmetic")
    desktop.value("document.querySelector('[type=reset]').focus()")
    desktop.page.keyboard.press("Tab")
    desktop.page.keyboard.press("ArrowDown")
    desktop.page.keyboard.press("ArrowDown")
    desktop.page.keyboard.press("ArrowUp")
    assert desktop.value("document.activeElement === document.querySelectorAll('.row')[1]")
    outline = desktop.value("getComputedStyle(document.activeElement).outlineWidth")
    assert int(outline.removesuffix("px")) >= 2
    desktop.page.keyboard.press("Enter")
    assert desktop.value("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert desktop.value("document.querySelectorAll('.tree svg rect').length") == 3
    assert desktop.value("document.querySelectorAll('.tree svg g').length") == 3 + 7
    assert desktop.value("document.querySelector('.tree .first text').textContent").startswith("MIN ")
    marked = desktop.value("document.querySelector('.steps .first').innerText")
    assert "step 1" in marked and "✗ first error: wrong arithmetic" in marked
    assert desktop.value("document.querySelectorAll('.steps .first').length") == 1
    model, right = desktop.value("[...document.querySelectorAll('.steps .first mark')].map((e) => e.textContent)")
    assert model == f"9{right}"
    desktop.value("document.activeElement.scrollIntoView({behavior: 'instant'})")
    screenshot(desktop, "example.png")
    desktop.page.keyboard.press("Enter")
    assert desktop.value("document.querySelector('.detail')") is None
    quiet(desktop, written)


def test_outputs_of_a_model_are_shown_as_text(desktop, written):
    select(desktop, "kind", "malformed")
    desktop.value("document.querySelector('.row').click()")
    assert HOSTILE in desktop.value("document.querySelector('.steps .first td').textContent")
    assert desktop.value("document.images.length") == 0
    quiet(desktop, written)


def test_injected_script_does_not_run(desktop):
    """The policy holds where escaping should fail."""
    desktop.value(f"document.getElementById('count').innerHTML = {HOSTILE.replace('alert(1)', 'window.ran = 1')!r}")
    desktop.value("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    desktop.value("new Promise((done) => setTimeout(done, 200))")
    assert desktop.value("window.ran") is None
    assert desktop.messages


def test_cell_of_the_heat_map_links_to_its_predictions(desktop):
    select(desktop, "kind", "answer")
    desktop.value("document.querySelector('a[data-set]').click()")
    assert (
        desktop.value("document.querySelector('[name=set]').selectedOptions[0].textContent")
        == "medium · test · step 20"
    )
    assert desktop.value("location.hash") == "#explorer"


def test_phone_needs_no_sideways_scrolling(phone, written, screenshot):
    assert phone.value("innerWidth") == 375
    phone.value("document.querySelectorAll('.row')[1].click()")
    assert phone.value("document.documentElement.scrollWidth") == 375
    screenshot(phone, "phone.png")
    phone.value("document.getElementById('first-errors').scrollIntoView({behavior: 'instant'})")
    screenshot(phone, "phone_first_errors.png")
    phone.value("document.getElementById('explorer').scrollIntoView({behavior: 'instant'})")
    screenshot(phone, "phone_example.png")
    small = phone.value(
        "[...document.querySelectorAll('select, button, input[type=search]')].filter((e) => e.offsetParent)"
        ".filter((e) => e.offsetHeight < 36).length"
    )
    assert small == 0  # a finger hits them
    quiet(phone, written)


@pytest.mark.parametrize("width", [320, 390])
def test_phone_names_every_first_error(opened, written, width):
    tab = opened(written, width, 800, mobile=True)
    shown = tab.value("""[...document.querySelectorAll('.first-errors tbody th, .first-errors tbody td')]
      .filter((cell) => cell.offsetParent).map((cell) => {
        const text = document.createRange();
        text.selectNodeContents(cell);
        const { left, right } = text.getBoundingClientRect();
        const label = getComputedStyle(cell, '::before').content;
        return [label === 'none' ? '' : label.slice(1, -1), cell.textContent, left >= 0 && right <= innerWidth - 20];
      })""")
    cells = [("", "medium test"), ("", ""), ("valid", "50.0%")]
    cells += [("wrong list", "12.5%"), ("wrong arithmetic", "12.5%"), ("malformed", "12.5%"), ("wrong answer", "12.5%")]
    assert [(label, text) for label, text, _ in shown] == [*cells, ("n", "2,500")]
    assert all(inside for *_, inside in shown)
    assert tab.value("(() => { const e = document.querySelector('#first-errors .scroll');"
                     "return e.scrollWidth <= e.clientWidth; })()")  # fmt: skip


def test_2000_long_predictions_respond_at_once(opened, tmp_path):
    """Every act of a reader is worked off, styled and laid out within 100 ms, which a person takes for at once."""
    config, rows = CONFIGS["listops30"], []
    for i, tree in enumerate(t for chunk in range(16) for t in candidates(config, "train", chunk)):
        text = wrong(listops.explain(tree, "long"), i)
        rows.append(prediction(listops.format(tree), listops.evaluate(tree), text, "long"))
    run = write_medium(tmp_path)
    write_lines(run / "inference_eval/explained_listops30_long_eval_test_compact-000020.jsonl", rows[:2000])
    report.write_report([run], tmp_path / "report")
    tab = opened(tmp_path / "report" / "report.html")
    assert count(tab).startswith("2,000 of 2,000 predictions")

    def milliseconds(act: str) -> float:
        """The least of five, for other work takes its time too."""
        times = tab.value(f"""(async () => {{
          const times = [];
          for (let i = 0; i < 5; i++) {{
            const start = performance.now();
            {act};
            document.body.getBoundingClientRect();
            times.push(performance.now() - start);
            await new Promise(requestAnimationFrame);
          }}
          return times;
        }})()""")
        return min(times)

    acts = {
        "a letter": filled_in("search", "1", "input"),
        "a word": filled_in("search", "[MAX", "input"),
        "a search without result": filled_in("search", "nowhere", "input"),
        "no search": filled_in("search", "", "input"),
        "one kind": filled_in("kind", "arithmetic"),
        "every kind": filled_in("kind", ""),
        "wrong answers": filled_in("answer", "incorrect"),
        "every answer": filled_in("answer", ""),
        "more": "document.getElementById('more').click()",
        "an example": "document.querySelectorAll('.row')[i].click()",
    }
    slow = {name: taken for name, act in acts.items() if (taken := milliseconds(act)) > 100}
    assert slow == {}
    assert tab.value("document.querySelectorAll('.tree svg').length") == 5
    assert tab.value("document.querySelectorAll('.row').length") == 50 + 5 * 50


def test_any_two_of_21_runs_look_different(opened, tmp_path):
    runs = many_runs(read_run(write_medium(tmp_path)), 21)
    (tmp_path / "many.html").write_text(page.document(runs, [[]] * 21, report.HEADER, report.rows(runs)))
    tab = opened(tmp_path / "many.html")
    tab.until(f"{marks('line')} === 21")
    tab.until("document.querySelectorAll('#groups > div').length === 3")
    tab.until("document.querySelectorAll('#groups > div:last-child .mark-symbol path').length === 84")

    def looks(selector: str, attributes: str) -> set[str]:
        names = f"{attributes.split()!r}.map((name) => e.getAttribute(name)).join()"
        return set(tab.value(f"[...document.querySelectorAll({selector!r})].map((e) => {names})"))

    for chart in ("#groups > div", "#curves"):
        assert len(looks(f"{chart} .mark-symbol path", "fill d")) == 21
    assert len(looks("#curves .mark-line path", "stroke stroke-dasharray")) == 21
    for chart in ("#groups", "#curves"):  # beside the names
        items = f"[...document.querySelectorAll('{chart} .key i')].map((e) => e.style.color + e.textContent)"
        assert len(set(tab.value(items))) == 21
    # The dots of one group stand side by side, half of each visible.
    panel = "[...document.querySelector('#groups > div').querySelectorAll('.mark-symbol path')]"
    xs = tab.value(f"{panel}.map((e) => e.getBoundingClientRect().x)")
    assert min(b - a for a, b in itertools.pairwise(sorted(xs))) > 3.75  # pixels; a dot has 7.5


def test_every_control_has_a_name_for_screen_readers(desktop):
    session = desktop.page.context.new_cdp_session(desktop.page)
    session.send("Accessibility.enable")
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "searchbox", "radio", "link", "region", "search", "navigation")
    unnamed = [n for n in nodes if n.get("role", {}).get("value") in roles and not n.get("name", {}).get("value")]
    assert unnamed == []
    assert {"main", "banner", "navigation", "search", "status"} <= {n.get("role", {}).get("value") for n in nodes}


@pytest.mark.parametrize("dark", [False, True])
def test_text_contrasts_with_its_ground(opened, written, dark):
    """4.5 to 1 at least, as WCAG AA asks of text, for every element with text of its own."""
    tab = opened(written, dark=dark)
    tab.value("document.querySelectorAll('.row')[1].click()")
    assert low_contrast(tab) == []
