"""The tables of docs/results-teaching.md, from results that are made up."""

import itertools

from experiments import document, student_tables
from experiments.accuracy import results
from explainft.evaluation.metrics import wilson


def student(sweep, right, n=2000, seed="0", **axis_values):
    metrics = {"exact_match": right / n, "n": n, "parseable": 0.5}
    prefix = "explained_teaching_0_gold_5000_x_eval"
    evaluations = {f"{prefix}_test": metrics, f"{prefix}_validation": {**metrics, "exact_match": 1.0}}
    return {"sweep": f"students_{sweep}", "axis_values": {"seed": seed, **axis_values}, "evaluations": evaluations}


def teacher(seed, kept, valid):
    low, high = wilson(1600, 2000)
    stages = {
        method: {f"{method}.json": {"outcomes": {"cote": {"accepted": kept}}, "steps": {"valid": valid}}}
        for method in ("cote", "rp", "crop")
    }
    tested = {"exact_match": 0.8, "exact_match_low": low, "exact_match_high": high, "n": 2000}
    stages["test"] = {student_tables.HINTED_TEST: tested}
    return {
        "pipeline": "teaching",
        "axis_values": {"seed": seed},
        "stages": {name: {"report": report} for name, report in stages.items()},
    }


def test_a_cell_is_the_mean_over_seeds_of_its_own_trials():
    found = [
        student("forms", 900, form="mt_re", source="gold"),
        student("forms", 1100, seed="1", form="mt_re", source="gold"),
    ]
    found += [student("alphas", 10, form="mt_re", alpha="0.1"), student("sources", 20, form="mt_cot", source="cote")]
    low, high = wilson(1000, 2000)
    cell = f"**50.0%** [{100 * low:.1f}, {100 * high:.1f}] (45.0 to 55.0)"
    assert f"| `mt_re` | {cell} |" in student_tables.render("student_forms", found, [])
    assert f"| 0.5 | {cell} | - |" in student_tables.render("student_alphas", found, [])
    assert "| cote | **1.0%**" in student_tables.render("student_sources", found, [])
    assert "| gold, all 5,000 | - | - |" in student_tables.render("student_sources", found, [])


def test_crop_counts_the_explanations_of_both_methods():
    found = [teacher("0", 4000, 3000), teacher("1", 3000, 1500)]
    found[0]["stages"]["crop"]["report"]["crop.json"]["outcomes"]["rp"] = {"accepted": 500}
    text = student_tables.render("teachers", [], found)
    assert "| accuracy of the teacher on test | **80.0%**" in text
    assert "| `cote` |  | **3,500** (3,000 to 4,000) | **62.5%** (50.0% to 75.0%) |" in text
    assert "| `crop` |  | **3,750** (3,000 to 4,500) |" in text


def test_every_table_renders_without_results():
    for name in student_tables.TABLES:
        assert student_tables.render(name, [], []).count(" - |") >= 1


def test_other_tables_leave_students_out():
    found = results()
    students = [student("examples", 1, form=form, examples="20000", size="63k") for form in ("single", "mt_cot")]
    texts = [
        document.fill_tables("<!-- table examples -->\n<!-- end -->", rows) for rows in (found, [*found, *students])
    ]
    assert all(a == b for a, b in itertools.pairwise(texts))
