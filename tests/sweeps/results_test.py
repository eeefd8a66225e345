"""Result files: a corrupt one is named in one line, and a table shows what the whole ones say."""

import json

import pytest

from explainft.core.errors import UserError
from explainft.sweeps import results
from tests.helpers.sweeps import TASK


def result(**changed):
    metrics = {"exact_match": 0.5, "exact_match_low": 0.25, "exact_match_high": 0.75, "n": 4}
    return {
        "sweep": "grid", "axis_values": {"seed": "0"}, "result_hash": "0123", "commands": ["explainft train"],
        "parameters": 10, "steps": 2, "examples": 16, "flops": 100, "seconds": 2.0, "final_loss": 0.5,
        "curve": {"columns": ["step", "examples", "exact_match", "n"], "rows": [[2, 16, None, None]]},
        "evaluations": {TASK: metrics}, "peak_bytes": 100, "made_with": {"cpu": "a CPU"},
    } | changed  # fmt: skip


def test_result_is_read_as_written(tmp_path):
    path = results.result_path(tmp_path, "grid", "0")
    results.write_result(path, result())
    assert path == tmp_path / "grid/0.json" and results.read_result(path) == result()


@pytest.mark.parametrize("name", list(results.FIELDS))
@pytest.mark.parametrize("damage", ["missing", None, [], {"a": None}, -1, "nan"])
def test_corrupt_field_is_named(tmp_path, name, damage):
    whole = result()
    if damage == "missing":
        del whole[name]
    else:
        whole[name] = float("nan") if damage == "nan" else damage
    path = tmp_path / "0.json"
    path.write_text(json.dumps(whole))
    if name == "commands" and damage == []:
        assert results.read_result(path) == whole
        return
    with pytest.raises(UserError, match=f'0.json is corrupt ."{name}" is .*delete it and rerun its command') as error:
        results.read_result(path)
    assert str(path) in error.value.line and "\n" not in error.value.line


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', "[" * 10_000, '{"a": ' * 10_000, "\xff"])
def test_corrupt_file_is_named(tmp_path, text):
    path = tmp_path / "0.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="0.json is corrupt .*delete it and rerun its command") as error:
        results.read_result(path)
    assert str(path) in error.value.line and "\n" not in error.value.line


def test_corrupt_curve_and_scores_are_named(tmp_path):
    path = tmp_path / "0.json"
    for damaged in ({"curve": {"rows": [[1, 2]]}}, {"evaluations": {TASK: {"n": "4"}}}, {"made_with": {"cpu": 3}}):
        path.write_text(json.dumps(result(**damaged)))
        with pytest.raises(UserError, match=f'0.json is corrupt ."{next(iter(damaged))}" is '):
            results.read_result(path)


def test_table_has_a_row_for_each_trial():
    longer = "explained_tiny_medium_eval_longer_compact"
    scores = result()["evaluations"][TASK]
    own = result(axis_values={"seed": "1"}, evaluations={TASK: {"accuracy": 1.0}, longer: scores}, seconds=1234.5)
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in results.table([result(), own]).split("\n")
    ]
    assert lines[0] == ["seed", "tiny test", "tiny longer", "training seconds"]
    assert lines[2:] == [
        ["0", "50.0% [25.0, 75.0]", "-", "2"],
        ["1", "scored", "50.0% [25.0, 75.0]", "1,234"],
    ]
