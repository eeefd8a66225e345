"""The tables of docs/results-transfer.md, from matrices that are made up."""

from experiments import document, few_shot_tables
from experiments.few_shot_tables import Tuned, task_of
from explainft.evaluation.metrics import wilson


def cell(run, task, right, n=250, trained=None):
    return {"run": run, "task": task, "value": right / n, "n": n, "trained_format": trained}


def text(right, n=250):
    low, high = wilson(right, n)
    return f"**{right / n:.1%}** [{100 * low:.1f}, {100 * high:.1f}]"


def render(name, **matrix):
    return few_shot_tables.render(name, {few_shot_tables.TABLES[name][1]: matrix})


def test_label_of_a_run():
    assert few_shot_tables.tuned("runs/few_shot/1-none-2-4000-base") == Tuned("1", "none", "2", "4000")
    assert few_shot_tables.tuned("runs/base") is None


def test_grid_has_the_shots_of_training_and_of_the_test():
    two = task_of("none", "2")
    found = [
        cell("0-none-1-4000-base", two, 100),
        cell("1-none-1-4000-base", two, 150),
        cell("0-none-1-2000-base", two, 1),  # fewer examples
        cell("0-medium-1-4000-base", two, 2),  # another form
        cell("0-none-1-4000-base", task_of("none", "2", "_reworded"), 25),
        cell("runs/base", two, 10),
    ]
    table = render("few_shot_none", cells=found)
    assert f"| tuned with 1 | - | {text(125)} (40.0 to 60.0) | - | - | {text(25)} (1 seed) | - |" in table
    assert f"| the base | - | {text(10)} (1 seed) | - | - | - | - |" in table
    assert "| tuned with 2 | - | - | - | - | - | - |" in table


def test_examples():
    found = [cell(f"0-medium-0-{n}-base", task_of("medium", "2"), right) for n, right in (("2000", 5), ("6000", 50))]
    table = render("few_shot_examples", cells=found)
    assert f"| explanation, tuned with 0 | {text(5)} (1 seed) | - | {text(50)} (1 seed) |" in table


def test_specialization_is_of_the_other_form():
    found = [
        cell("0-none-2-4000-base", task_of("medium", "0"), 0, trained=0.9),
        cell("0-none-2-4000-base", task_of("medium", "2"), 25, trained=0.1),
        cell("0-none-2-4000-base", task_of("none", "0"), 250),
    ]
    table = render("few_shot_specialization", cells=found)
    assert f"| tuned with 2, answer alone | {text(0)} (1 seed) | {text(25)} (1 seed) | - | 50.0% |" in table


def test_distances():
    runs = [
        {"label": f"{seed}-none-0-4000-base", "distances": {"all": {"relative": value}}}
        for seed, value in (("0", 0.1), ("1", 0.3))
    ]
    table = render("few_shot_distances", runs=[*runs, {"label": "runs/base", "distances": None}])
    assert "| answer alone | 0.2000 (0.1000 to 0.3000) | - | - |" in table


def test_changes_by_split():
    tasks = {split: f"explained_sort_answer_eval_{split}_compact" for split in ("test", "larger_numbers")}
    changes = [
        {"run": "0-none-0-4000-base", "task": tasks["test"], "value": -0.2, "transfer": "negative"},
        {"run": "1-none-0-4000-base", "task": tasks["test"], "value": 0.1, "transfer": "unclear"},
        {"run": "1-none-0-4000-base", "task": tasks["larger_numbers"], "value": 0.5, "transfer": "positive"},
    ]
    table = render("few_shot_tuning", evaluations=[{"task": task} for task in tasks.values()], differences=changes)
    assert "| points | test | larger numbers | gains, losses |" in table
    assert "| answer alone, tuned with 0 | -5.0 | +50.0 | 1, 1 of 3 |" in table


def test_every_table_renders_without_results():
    for name in few_shot_tables.TABLES:
        filled = document.fill_tables(f"<!-- table {name} -->\n<!-- end -->", [])
        assert filled.count(" - |") >= 6
