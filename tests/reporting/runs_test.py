import pytest

from explainft.core.errors import UserError
from explainft.reporting import runs
from tests.helpers.question_runs import write_questions
from tests.helpers.run_directories import (
    TEST,
    VALIDATION,
    evaluation,
    training_row,
    write_lines,
    write_two_configs,
)


def test_run_is_read(medium):
    run = runs.read_run(medium)
    assert run.name == "medium"
    assert list(run.train) == [10, 30]  # the row of step 15 is an evaluation
    assert {task: list(by_step) for task, by_step in run.evaluations.items()} == {TEST: [20], VALIDATION: [5, 15, 30]}
    assert run.evaluations[VALIDATION][15]["valid"] == 0.8125


def test_cumulative_columns_between_their_rows(medium):
    run = runs.read_run(medium)
    assert [run.at(step, "examples") for step in (0, 5, 10, 15, 30)] == [0, 500, 1000, 2000, 5000]
    assert [run.at(step, "seconds") for step in (0, 5, 10, 15, 30)] == [0, 15, 30, 45, 90]
    assert run.at(31, "examples") is None and run.at(-1, "examples") is None and run.at(5, "tokens") is None


def test_steps_ascend_and_count_once(t5x):
    (by_step,) = runs.read_run(t5x).evaluations.values()
    assert [(step, row["exact_match"]) for step, row in by_step.items()] == [(1000, 0.125), (2000, 0.375)]


def test_only_finite_numbers_are_read(tmp_path):
    row = evaluation(1, 0.5, valid=float("nan")) | {"sample": "text", "histogram": [1, 2]}
    write_lines(tmp_path / "inference_eval/a-metrics.jsonl", [row])
    assert runs.read_run(tmp_path).evaluations["a"][1].keys() == evaluation(1, 0.5).keys()


def test_last_line_cut_off_by_a_kill_is_skipped(medium):
    file = medium / "metrics.jsonl"
    whole = runs.read_run(medium)
    file.write_text(file.read_text() + '{"step": 40, "examples": 60')
    assert runs.read_run(medium) == whole


@pytest.mark.parametrize(
    "corrupt", ['{"step": 40, "exa', "[1, 2]", '{"examples": 3}', '{"step": "4"}', "", "\x00", "[" * 10_000]
)
@pytest.mark.parametrize("name", ["metrics.jsonl", f"inference_eval/{VALIDATION}-metrics.jsonl"])
def test_corrupt_line_is_named(medium, name, corrupt):
    file = medium / name
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, corrupt, *rest]) + "\n")
    with pytest.raises(UserError, match="line 2 is corrupt") as error:
        runs.read_run(medium)
    assert str(file) in str(error.value)


def test_directory_without_a_run_is_refused(tmp_path):
    (tmp_path / "inference_eval").mkdir()
    (tmp_path / "inference_eval/a-000100.jsonl").write_text('{"input": {}}\n')
    (tmp_path / "inference_eval/b-metrics.jsonl").write_text("")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="expected metrics.jsonl or inference_eval/<task>-metrics.jsonl"):
            runs.read_run(path)


# ---- FLOPs


def test_flops_add_up_over_the_rows(tmp_path):
    rows = [training_row(10, 100, 5.0), training_row(30, 300, 25.0)]
    write_lines(tmp_path / "metrics.jsonl", [row | {"flops_per_second": 1e9 * (i + 1)} for i, row in enumerate(rows)])
    run = runs.read_run(tmp_path)
    assert [run.at(step, "flops") for step in (0, 5, 10, 20, 30)] == [0, 2.5e9, 5e9, 25e9, 45e9]
    assert run.at(31, "flops") is None


def test_flops_are_not_known_from_the_first_row_without_them(medium, tmp_path):
    assert runs.read_run(medium).at(10, "flops") is None
    rows = [training_row(step, 100 * step, step) for step in (10, 20, 30)]
    write_lines(
        tmp_path / "metrics.jsonl", [rows[0] | {"flops_per_second": 2.0}, rows[1], rows[2] | {"flops_per_second": 2.0}]
    )
    run = runs.read_run(tmp_path)
    assert [run.at(step, "flops") for step in (10, 11, 30)] == [20, None, None]


# ---- variants and splits


def test_the_grid_has_the_last_evaluation_of_each_split(medium, t5x):
    write_lines(t5x / "inference_eval/explained_tiny_none_eval_longer-metrics.jsonl", [evaluation(1000, 0.25)])
    write_lines(t5x / "inference_eval/a-metrics.jsonl", [evaluation(1000, 0.5)])
    splits, rows = runs.grid([runs.read_run(medium), runs.read_run(t5x)])
    assert splits == ["validation", "test", "longer", "a"]
    shown = [
        (row.run, row.label, {split: (step, m["exact_match"]) for split, (_, step, m) in row.cells.items()})
        for row in rows
    ]
    assert shown == [
        (0, "medium", {"test": (20, 0.625), "validation": (30, 0.875)}),
        (1, "t5x", {"a": (1000, 0.5), "longer": (1000, 0.25), "validation": (2000, 0.375)}),
    ]


def test_splits_of_another_config_are_named_with_it_in_the_runs_own_row(tmp_path):
    run = runs.read_run(write_two_configs(tmp_path))
    splits, rows = runs.grid([run])
    others = ["tiny_25_96 validation", "tiny_25_96 test", "tiny_25_96 larger numbers"]
    assert splits == ["validation", "test", "larger numbers", *others]
    assert [(row.label, sorted(row.cells, key=runs.split_order)) for row in rows] == [
        ("medium", splits),
        ("medium explained_tiny_without_sum", ["test"]),
    ]
    assert rows[0].cells["tiny_25_96 test"][2]["exact_match"] == 0.25


def test_a_run_was_trained_on_what_it_was_validated_on_most_often(tmp_path):
    names = {"explained_tiny_25_96_long_eval_validation": [30], "explained_tiny_long_eval_validation": [10, 20, 30]}
    for task, steps in names.items():
        write_lines(tmp_path / f"inference_eval/{task}-metrics.jsonl", [evaluation(step, 0.5) for step in steps])
    run = runs.read_run(tmp_path)
    assert runs.own_variant(run) == "explained_tiny_long"
    # As often, it cannot be told: a row each.
    for task in names:
        write_lines(tmp_path / f"inference_eval/{task}-metrics.jsonl", [evaluation(30, 0.5)])
    run = runs.read_run(tmp_path)
    assert runs.own_variant(run) is None
    places = [
        (f"{run.name} explained_tiny_25_96_long", "validation"),
        (f"{run.name} explained_tiny_long", "validation"),
    ]
    assert [runs.row_and_split(run, task) for task in names] == places


def test_without_validation_a_run_has_a_row_for_each_variant(tmp_path):
    for config in ("listops30", "tiny_25_96"):
        file = tmp_path / f"run/inference_eval/explained_{config}_medium_eval_test-metrics.jsonl"
        write_lines(file, [evaluation(30, 0.5)])
    splits, rows = runs.grid([runs.read_run(tmp_path / "run")])
    assert splits == ["test"]
    assert [row.label for row in rows] == ["run explained_listops30_medium", "run explained_tiny_25_96_medium"]


# ---- imported questions


def test_dataset_and_form_of_imported_questions(tmp_path):
    run = write_questions(tmp_path, "homes")
    for task in ("explained_old_homes_explain_answer_eval_test", "explained_homes_answer_eval_test"):
        write_lines(run / f"inference_eval/{task}-metrics.jsonl", [evaluation(30, 0.5)])
    splits, rows = runs.grid([runs.read_run(run)])
    assert splits == ["validation", "test", "old_homes test"]
    assert [(row.label, list(row.cells)) for row in rows] == [
        ("homes explained_homes_answer", ["test"]),  # another form
        ("homes", ["test", "validation", "old_homes test"]),
    ]


def test_groups_are_those_of_the_metrics(tmp_path):
    _, metrics = runs.read_run(write_questions(tmp_path, "sums")).last("explained_sums_explain_answer_eval_test")
    assert runs.group_kinds(metrics) == ["subject", "level"]
    assert [(group.name, group.n) for group in runs.groups(metrics, "subject")] == [
        ("Counting & more", 3),
        ("Prices", 4),
    ]
    own = {"exact_match/zone/a/b": 0.5, "exact_match/depth/2": 0.5, "exact_match_low": 0.5, "exact_match": 0.5}
    assert runs.group_kinds(own) == ["depth", "zone"]
    assert [group.name for group in runs.groups(own, "zone")] == ["a/b"]
    assert (runs.group_title("choices"), runs.group_title("time_zone")) == ("number of choices", "time zone")
