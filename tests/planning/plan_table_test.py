"""The table of many plans: it keeps rows, resumes, and refuses what it cannot write."""

from pathlib import Path

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.planning import plan_table
from explainft.recipes.recipe import find_files
from tests.planning.plan_test import a_plan


def cut_off(path, text):
    path.write_bytes(text[:5].encode())
    raise KeyboardInterrupt


def test_table_resumes_where_it_stopped(tmp_path, monkeypatch, capsys):
    made = []

    def make(file, topology, bindings, search_paths, quick):
        made.append((file, topology))
        return "no | such chip" if topology == "v4-8" else a_plan(topology)

    monkeypatch.setattr(plan_table, "plan_in_process", make)
    output = tmp_path / "docs" / "plan.md"
    topologies = ["v4-8", "v5e-16"]
    plan_table.write(["gin/a_tiny.gin"], topologies, [], [], True, "explainft plan --all", output)
    assert made == [("gin/a_tiny.gin", "v4-8"), ("gin/a_tiny.gin", "v5e-16")]
    lines = output.read_text().splitlines()
    assert lines[-2].startswith("| a_tiny | v4-8 | failed: no / such chip |")
    assert lines[-1] == "| a_tiny | v5e-16 | yes | 12.00 | 12.00 | 197.00 | 1,000.00 | 32 | 2.00 | 9 |"
    assert capsys.readouterr().out.splitlines() == lines[-2:]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1

    made.clear()
    plan_table.write(["gin/a_tiny.gin", "gin/b_tiny.gin"], topologies, [], [], True, "explainft plan --all", output)
    assert made == [("gin/a_tiny.gin", "v4-8"), ("gin/b_tiny.gin", "v4-8"), ("gin/b_tiny.gin", "v5e-16")]
    assert lines[-1] in output.read_text().splitlines()

    made.clear()
    plan_table.write(["gin/c_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", output)
    rows = [line for line in output.read_text().splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in rows] == ["recipe", "c_tiny", "a_tiny", "a_tiny", "b_tiny", "b_tiny"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", cut_off)
        plan_table.write(["gin/d_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", output)
    assert [line for line in output.read_text().splitlines() if line.startswith("| ")] == rows

    made.clear()
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], False, "explainft plan --all", output)
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], ["BATCH_SIZE=64"], [], False, "explainft plan --all", output)
    monkeypatch.setattr(plan_table, "sources_digest", lambda: "changed")
    plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], ["BATCH_SIZE=64"], [], False, "explainft plan --all", output)
    assert len(made) == 3  # what was made under other conditions is not mixed in


def test_other_file_is_not_overwritten(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(UserError, match="notes.md is not a table of plans; name another file"):
        plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / "notes.md")
    assert (tmp_path / "notes.md").read_text() == "mine"


@pytest.mark.parametrize("output", ["", "file/plan.md"])
def test_unwritable_table_is_refused_before_planning(tmp_path, monkeypatch, output):
    monkeypatch.setattr(plan_table, "plan_in_process", lambda *_: pytest.fail("planned"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}"):
        plan_table.write(["gin/a_tiny.gin"], ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / output)


def test_two_recipes_of_one_name_are_refused(tmp_path):
    files = ["one/a.gin", "other/a.gin"]
    with pytest.raises(UserError, match="give recipes of different names"):
        plan_table.write(files, ["v5e-16"], [], [], True, "explainft plan --all", tmp_path / "plan.md")


def test_failed_plan_is_a_row():
    assert "no recipe" in plan_table.plan_in_process("gin/absent.gin", "v5e-8", [], [], True)


def test_all_recipes_are_planned_without_a_gin_file(tmp_path, monkeypatch):
    """`explainft plan --all` plans every packaged recipe that trains."""
    planned = []
    monkeypatch.setattr(plan_table, "plan_in_process", lambda file, *_: planned.append(file) or "not compiled here")
    main(["plan", "--all", "--topology=v5e-8", f"--output={tmp_path / 'plan.md'}"])
    assert len(planned) == 20 and planned[0] == "gin/none_tiny.gin"
    assert len(find_files(planned)) == 20
