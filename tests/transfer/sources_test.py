"""What a run is compared with."""

from explainft.evaluation.infer import PRETRAINED
from explainft.transfer.settings import RunSetting
from explainft.transfer.sources import label_of, label_runs, open_sources
from tests.helpers.run_directories import shipped


def write_config(run, start):
    (run / "config.gin").write_text(f"# Macros:\nINITIAL_CHECKPOINT_PATH = \\\n    {str(start)!r}\nLOG_PERIOD = 1\n")


def test_baseline_is_the_checkpoint_that_the_run_started_from(tmp_path, start_run):
    run = shipped(tmp_path / "tuned")
    write_config(run, f"{start_run}/checkpoints/checkpoint_4000")
    rows = open_sources([RunSetting("tuned", str(run))])
    assert [(row.label, row.baseline, row.added) for row in rows] == [("tuned", "start", False), ("start", None, True)]


def test_missing_start_is_noted(tmp_path, capsys):
    run = shipped(tmp_path / "tuned")
    write_config(run, tmp_path / "gone")
    [row] = open_sources([RunSetting("tuned", str(run))])
    assert row.baseline is None and "give --baseline" in capsys.readouterr().err


def test_baseline_may_be_a_run_of_the_matrix(start_run):
    rows = open_sources(
        [RunSetting("base", str(start_run), baseline="base"), RunSetting("tuned", str(PRETRAINED), baseline="base")]
    )
    assert [(row.label, row.baseline) for row in rows] == [("base", None), ("tuned", "base")]


def test_other_baseline_of_the_same_name_has_its_path(tmp_path, start_run):
    rows = open_sources([RunSetting("start", str(PRETRAINED), baseline=str(start_run))])
    assert [row.label for row in rows] == ["start", f"start ({start_run})"]
    assert rows[0].baseline == rows[1].label


def test_labels_are_names_of_directories_or_paths():
    assert label_of("runs/medium/checkpoints/best") == "medium"
    assert label_runs(["a/x", "b/y"]) == {"x": "a/x", "y": "b/y"}
    assert label_runs(["a/x", "b/x"]) == {"a/x": "a/x", "b/x": "b/x"}
