"""The pages of measurements, made from their files."""

import json

from benchmarks import document, side_by_side


def report(rate):
    spread = {"median": rate, "min": rate / 2, "max": rate * 2}
    system = {"unit": "step", "work": 1, "seconds": spread, "rate": spread, "peak_memory": 2**30, "turns": [1.0]}
    return {
        "command": "python -m benchmarks.row", "repetitions": 5, "machine": {"cpu": "a CPU", "cores": 2},
        "left_out": ["T5X: t5x is not installed"], "systems": {"explainft": system, "peer": system},
        "ratios": {"peer": spread}, "facts": {"share": 0.5},
    }  # fmt: skip


def test_a_table_is_made_of_its_file_and_a_missing_one_is_a_dash(tmp_path):
    (tmp_path / "row.json").write_text(json.dumps(report(4.0)))
    text = "words\n<!-- bench row -->\nby hand\n<!-- end -->\n<!-- bench other --><!-- end -->\n"
    made = document.filled(text, tmp_path)
    assert "4 [2, 8] step/s" in made and "| peer |" in made and "- left out: T5X" in made
    assert "by hand" not in made and "- (`python -m benchmarks.other`)" in made and made.startswith("words\n")
    assert document.filled(made, tmp_path) == made
    (tmp_path / "row.json").write_text(json.dumps(report(6.0)))
    assert document.filled(made, tmp_path) != made


def test_goals_stand_beside_float32_and_the_fastest_of_ours(tmp_path):
    found = report(4.0)
    rates = {"explainft": 4.0, "explainft, int8": 9.0, "Hugging Face": 3.0}
    found["systems"] = {name: {"rate": {"median": rate}} for name, rate in rates.items()}
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    made = document.filled("words\n<!-- goals -->\nby hand\n<!-- end -->\n", tmp_path)
    assert "| evaluating | Hugging Face | 3x | 1.33x | 3x: int8 |" in made and "by hand" not in made
    assert "| sampling | Hugging Face | 5x | - | - |" in made
    del found["systems"]["explainft, int8"]
    (tmp_path / "evaluate.json").write_text(json.dumps(found))
    assert "| 1.33x | 1.33x |" in document.filled("<!-- goals --><!-- end -->", tmp_path)


def test_a_profile_is_a_table_of_shares(tmp_path):
    profile = {
        "command": "python -m benchmarks.row --profile", "machine": {"cpu": "a CPU", "cores": 2}, "system": "explainft",
        "seconds": 1.5, "shares": {"dot": 0.75, "copy": 0.242, "tail": 0.004, "end": 0.004},
    }  # fmt: skip
    (tmp_path / "row_profile.json").write_text(json.dumps(profile))
    made = document.filled("<!-- bench row_profile --><!-- end -->", tmp_path)
    assert "| `dot` | 75% |\n| `copy` | 24% |\n| 2 others | 1% |" in made and "1.5 s without the trace" in made


def test_rows_of_data_are_a_table_of_rates(tmp_path):
    rows = [{"examples": 10_000, "work": "build", "seconds": 20.0, "peak_mib": 383.4}]
    found = {"command": "python -m benchmarks.row", "machine": {"cpu": "a CPU", "cores": 2}, "rows": rows}
    (tmp_path / "row.json").write_text(json.dumps(found))
    made = document.filled("<!-- bench row --><!-- end -->", tmp_path)
    assert "| 10,000 | build | 20.0 | 500 | 383 |" in made


def test_the_pages_are_what_the_measurements_say():
    for page in document.PAGES:
        text = page.read_text()
        assert "<!-- bench " in text and document.filled(text) == text
    assert document.DOCS.parent / "benchmarks" / "results" == side_by_side.RESULTS
