"""Documents made from results: what their cells say, and that they are what results/ says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import accuracy, document, few_shot_tables, pictures, pipeline_tables, rerun, student_tables, tables
from explainft.core.errors import UserError
from explainft.evaluation.metrics import wilson
from explainft.recipes import recipe
from explainft.reporting import vega
from explainft.sweeps import cost_model, sweep


def result(right, n=2000, task="explained_tiny_medium_eval_test_compact", valid=None, **labels):
    metrics = {"exact_match": right / n, "n": n, "decoded_tokens": 10.0}
    metrics |= {} if valid is None else {"valid": valid / n}
    return {
        "sweep": "sizes", "axis_values": {"style": "medium", "size": "240k", "seed": "0", **labels}, "flops": 2e12,
        "examples": 1000, "steps": 10, "seconds": 3600.0, "made_with": {"cpu": "a CPU", "jax": "1"},
        "curve": {"columns": [], "rows": [[10, 100, 0.5, 20]]}, "evaluations": {task: metrics},
    }  # fmt: skip


def test_seeds_are_pooled():
    """The interval is that of one seed's examples, which the other answers too."""
    found = [result(1900, seed="0"), result(1980, seed="1")]
    of_both = accuracy.accuracy(found, "test")
    low, high = wilson(1940, 2000)
    assert of_both == accuracy.Accuracy(0.97, 0.95, 0.99, low, high, 2000, 2)
    assert of_both.text() == f"**97.0%** [{100 * low:.1f}, {100 * high:.1f}] (95.0 to 99.0)"
    assert accuracy.accuracy(found[:1], "test").text().endswith("(1 seed)")
    assert accuracy.accuracy(found, "longer") is None and tables.cell(None) == "-"


def test_splits_of_other_configs_are_distinct():
    far = result(10, task="explained_tiny_25_96_medium_eval_test_compact")
    assert accuracy.accuracy([far], "test") is None
    assert accuracy.accuracy([far], "tiny_25_96_test").mean == 0.005
    modsum = result(7, n=10, task="explained_modsum_tiny_none_eval_test_compact")
    assert accuracy.accuracy([modsum], "test").mean == 0.7


def test_lengths_are_summed_over_both_tasks():
    runs = []
    for right in (3, 5):
        near, far = result(8, n=10), result(1, n=10, task="explained_tiny_25_96_medium_eval_test_compact")
        [metrics] = near["evaluations"].values()
        metrics |= {"n/length/5-9": 4, "exact_match/length/5-9": 0.5, "n/depth/2": 10}
        metrics |= {"n/length/20-24": 6, "exact_match/length/20-24": (right - 2) / 6}
        [metrics] = far["evaluations"].values()
        metrics |= {"n/length/25-29": 4, "exact_match/length/25-29": 0.25, "n/length/60-69": 6,
                    "exact_match/length/60-69": 0.0}  # fmt: skip
        runs.append({**near, "evaluations": near["evaluations"] | far["evaluations"]})
    assert accuracy.by_length(runs, range(8, 25)).mean == pytest.approx(0.4)
    assert accuracy.by_length(runs, range(25, 50)) == accuracy.Accuracy(0.25, 0.25, 0.25, *wilson(1, 4), 4, 2)
    assert accuracy.by_length(runs, range(8, 25)).n == 10  # every one of them
    assert accuracy.by_length(runs, range(70, 97)) is None


def test_length_ranges_hold_every_example_once():
    metrics = pytest.importorskip("explainft.evaluation.metrics")
    expressions = ["[MAX " + " ".join(["1"] * n) + " ]" for n in range(6, 95)]
    targets = [{"expression": e, "answer": 1, "style": "none", "modulus": 10} for e in expressions]
    scores = metrics.score(targets, ["1"] * len(targets))
    near = {k: v for k, v in scores.items() if "length" not in k or int(k.split("/")[-1].split("-")[1]) < 25}
    far = {k: v for k, v in scores.items() if "length" not in k or int(k.split("/")[-1].split("-")[1]) >= 25}
    run = {**result(1), "evaluations": {"explained_tiny_none_eval_test_compact": near,
                                        "explained_tiny_25_96_none_eval_test_compact": far}}  # fmt: skip
    counted = [accuracy.by_length([run], lengths).n for lengths in accuracy.LENGTHS.values()]
    assert counted == [len([n for n in range(8, 97) if n in lengths]) for lengths in accuracy.LENGTHS.values()]


def test_results_with_another_axis_are_in_no_table():
    assert accuracy.pick([result(1, rate="high")]) == [] != accuracy.pick([result(1)])


def test_tables_and_figures_need_no_results():
    some = [result(1900), result(1000, task="explained_tiny_none_eval_test_compact", style="none")]
    for found in ([], some):
        for name in tables.TABLES:
            lines = tables.render(name, found).split("\n\n")[0].split("\n")
            assert len({line.count("|") for line in lines}) == 1
        for picture in pictures.PICTURES.values():
            drawn = picture(found)
            assert vega.svg(drawn) == vega.svg(drawn)  # the same bytes
    assert "**95.0%**" in tables.sizes(some) and "**50.0%**" in tables.sizes(some)


def test_t5_sizes_have_cells():
    modsum = result(20, n=100, task="explained_modsum30_none_eval_test", style="none", size="3b")
    modsum["axis_values"]["task"] = "modsum"
    large = result(90, n=100, task="explained_listops30_50_100_medium_eval_longer", size="large", data="50-100")
    base = result(80, n=100, task="explained_listops30_medium_eval_test", size="base")
    assert "| (c) modular sum, T5-3B | **20.0%**" in tables.t5_claims([modsum, large, base])
    assert "tested on 101-199 | - | **90.0%**" in tables.t5_claims([modsum, large, base])
    assert "| medium | - | **80.0%**" in tables.t5([modsum, large, base])
    assert "**" not in tables.sizes([modsum, large, base])


def test_result_is_of_a_trial_of_its_sweep(monkeypatch):
    monkeypatch.chdir(document.ROOT)  # recipes name one another from there
    monkeypatch.setattr(cost_model, "cost", lambda *_: (1, 1))  # traces each network
    named = {sweep for _, sweeps in tables.TABLES.values() for sweep in sweeps}
    named |= {Path(command.strip("`")).stem for _, command in student_tables.TABLES.values() if "sweep" in command}
    files = {path.stem for path in (document.ROOT / "experiments").glob("*.gin")}
    assert named | {few_shot_tables.SWEEP} == files
    assert tables.render("modsum", []).endswith("\n\nFrom `explainft sweep experiments/modsum.gin`.")
    for name in sorted({found["sweep"] for found in accuracy.results()}):
        grid = recipe.load([str(document.ROOT / "experiments" / f"{name}.gin")], []).build(sweep.Sweep)()
        trials = {trial.name: trial for trial in grid.trials(name, Path("runs"))}
        found = {path.stem: json.loads(path.read_text()) for path in (document.ROOT / "results" / name).iterdir()}
        for trial, result in found.items():
            assert result["axis_values"] == trials[trial].axis_values and result["commands"] == trials[trial].lines()
        if not name.startswith("students_"):  # their hashes depend on datasets that a pipeline makes
            plans = cost_model.make_trial_plans([trials[trial] for trial in found])
            assert all(result["result_hash"] == plans[trial].result_hash for trial, result in found.items())


def test_sampled_trials_depend_on_the_seed_alone():
    found = [result(1, seed=str(i)) for i in range(50)]
    assert rerun.sample_trials(found, 3, 2) == rerun.sample_trials(found, 3, 2) != rerun.sample_trials(found, 4, 2)
    with pytest.raises(UserError, match="--trials=51 must be 1 to 50"):
        rerun.sample_trials(found, 3, 51)


def test_rerun_is_compared_with_the_interval():
    def of(right, low, high):
        return {"evaluations": {"a_task": {"exact_match": right, "exact_match_low": low, "exact_match_high": high}}}

    [(line, inside)] = rerun.compared(of(0.5, 0.45, 0.55), of(0.54, 0, 1))
    assert inside and line == "a_task: 50.0%, again 54.0%, inside [45.0%, 55.0%]"
    [(line, inside)] = rerun.compared(of(0.5, 0.45, 0.55), of(0.56, 0, 1))
    assert not inside and "OUTSIDE" in line


def test_document_keeps_its_text_and_rebuilds_its_tables():
    text = "# Words\n\n<!-- table sizes -->\nold\n<!-- end -->\n\nmore\n<!-- table cost --><!-- end -->\n"
    once = document.fill_tables(text, [result(1900)])
    assert once.startswith("# Words\n") and "\nmore\n" in once and "old" not in once and "**95.0%**" in once
    assert document.fill_tables(once, [result(1900)]) == once
    with pytest.raises(KeyError):
        document.fill_tables("<!-- table unknown --><!-- end -->", [])


def test_documents_agree_with_the_results():
    checked = subprocess.run(
        [sys.executable, "-m", "experiments.document", "--check"], cwd=document.ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_check_names_a_document_that_differs(tmp_path, monkeypatch, capsys):
    (tmp_path / "results.md").write_text("<!-- table sizes -->\n\nby hand\n\n<!-- end -->\n")
    for name, value in {"ROOT": tmp_path, "DOCUMENTS": (tmp_path / "results.md",), "PICTURES": {}}.items():
        monkeypatch.setattr(document, name, value)
    monkeypatch.setattr(sys, "argv", ["document", "--check"])
    with pytest.raises(SystemExit) as exit:
        document.main()
    assert exit.value.code == 1 and "results.md differs from results/" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["document"])
    document.main()
    monkeypatch.setattr(sys, "argv", ["document", "--check"])
    with pytest.raises(SystemExit) as exit:
        document.main()
    assert exit.value.code == 0


def test_figures_and_tables_of_the_documents_exist():
    known = set().union(*(of.TABLES for of in (tables, pipeline_tables, student_tables, few_shot_tables)))
    for path in document.DOCUMENTS:
        text = path.read_text()
        assert set(re.findall(r"<!-- table (\w+) -->", text)) <= known
        for name in re.findall(r"figures/(\w+\.svg)", text):
            assert (document.FIGURES / name).is_file()
