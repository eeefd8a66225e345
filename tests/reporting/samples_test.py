"""Accuracy by number of samples: the chart of `vote`, and that of a report."""

import json
import re

import pytest

from explainft.core.errors import UserError
from explainft.reporting import report
from explainft.reporting.sample_votes import read_votes
from explainft.reporting.vote_charts import accuracy_by_samples, axes_of, samples_panel
from tests.helpers.drawn import Drawn
from tests.helpers.pages import quiet
from tests.helpers.sample_files import write_samples


def points(lines, axis):
    """The curves' points in a panel: name, x, and accuracy."""
    drawn = Drawn(samples_panel(lines, axis, 300, 200))
    return [(row["curve"], row["x"], row["accuracy"]) for row in drawn.rows()]


def test_chart_has_every_curve_against_samples_and_tokens(tmp_path):
    lines = read_votes([write_samples(tmp_path / "a.jsonl", score=True)])
    assert axes_of(lines) == ["k", "tokens"]
    texts = Drawn(accuracy_by_samples(lines)).texts()
    assert {"1", "2", "4", "8", "samples a problem", "generated tokens a problem"} <= set(texts)
    by_k, by_tokens = points(lines, "k"), points(lines, "tokens")
    assert [label for label, x, _ in by_k if x == 8] == ["pass@k", "majority@k", "weighted by score"]
    assert {x / k for (_, k, _), (_, x, _) in zip(by_k, by_tokens, strict=True)} == {by_tokens[0][1]}
    assert [by_k[4][2], by_k[8][2]] == pytest.approx([by_k[0][2]] * 2)  # one sample is the answer of every method


def test_files_are_told_by_their_names(tmp_path):
    (tmp_path / "other").mkdir()
    files = [write_samples(tmp_path / name, seed=i) for i, name in enumerate(("a.jsonl", "b.jsonl", "other/b.jsonl"))]
    labels = [line.label for line in read_votes(files)]
    assert labels[::2] == ["a: pass@k", f"{files[1]}: pass@k", f"{files[2]}: pass@k"]


def test_report_draws_the_samples_it_is_given(medium, tmp_path, capsys):
    report.write_report([medium], tmp_path / "report", [write_samples(tmp_path / "a.jsonl")])
    assert "samples.png" in capsys.readouterr().err
    text = (tmp_path / "report/report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert set(data["samples"]) == {"k", "tokens"}
    assert [row[0] for row in data["samples"]["k"]["rows"]] == ["pass@k"] * 4 + ["majority@k"] * 4
    report.write_report([medium], tmp_path / "without")
    assert not (tmp_path / "without/samples.png").exists()


def test_unusable_samples_write_no_report(medium, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(UserError, match="line 1 is not of a sample file"):
        report.write_report([medium], tmp_path / "report", [tmp_path / "a.jsonl"])
    assert not (tmp_path / "report").exists()


@pytest.mark.browser
def test_page_draws_and_switches_the_axis(opened, medium, tmp_path, screenshot):
    report.write_report([medium], tmp_path / "report", [write_samples(tmp_path / "a.jsonl", score=True)])
    file = tmp_path / "report/report.html"
    tab = opened(file)
    tab.until("document.querySelectorAll('#votes .mark-line path').length === 3")
    assert tab.value("document.querySelectorAll('#votes .key li').length") == 3
    screenshot(tab, "samples.png")
    tab.value("document.querySelector('[name=samples-axis][value=tokens]').click()")
    tab.until("document.querySelector('#votes .role-axis-title').textContent === 'generated tokens a problem'")
    quiet(tab, file)


@pytest.mark.browser
def test_page_without_samples_has_no_section_for_them(opened, medium, tmp_path):
    report.write_report([medium], tmp_path / "report")
    tab = opened(tmp_path / "report/report.html")
    assert tab.value("document.getElementById('samples').hidden")
    assert tab.value("getComputedStyle(document.querySelector('nav a[href=\"#samples\"]')).display") == "none"
