"""Tables of results of pipelines: each number lands in its cell. The files are those that the commands write."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from experiments import document, pipeline_tables
from explainft.core.errors import UserError
from explainft.reporting import reliability, vote_report
from explainft.sweeps.results import read_pipeline_result, write_result
from explainft.voting.calibration import calibrate
from explainft.voting.rerank import Difference, Ranking, Reranking
from explainft.voting.vote import MAJORITY, PASS, Curve, Estimate, Vote


def result(pipeline: str, axis_values: dict, reports: dict) -> dict:
    stages = {name: {"command": "c", "seconds": 1800, "report": report} for name, report in reports.items()}
    return {"pipeline": pipeline, "axis_values": {"seed": "0", **axis_values}, "stages": stages}


def scores(accuracy: float, style: str = "medium") -> dict:
    metrics = {"exact_match": accuracy, "exact_match_low": accuracy - 0.02, "exact_match_high": accuracy + 0.02}
    return {pipeline_tables.TEST.format(style=style): {**metrics, "n": 2000}}


def written(write, found) -> dict:
    """The JSON files that `write` makes of what was found."""
    with TemporaryDirectory() as directory:
        write(found, Path(directory))
        return {file.name: json.loads(file.read_text()) for file in Path(directory).glob("*.json")}


def voting(style: str, pass_1: float, majority_64: float, seed: str = "0") -> dict:
    def curve(method: str, last: float) -> Curve:
        values = ((1, pass_1), (64, last))
        return Curve(method, tuple(Estimate(k, value, value - 0.1, value + 0.1) for k, value in values))

    curves = (curve(PASS, 0.95), curve(MAJORITY, majority_64))
    vote = written(vote_report.write_vote, Vote(1000, 64000, 0, curves, 26.2, 0.5, 0.7, ()))
    return result("voting", {"style": style, "seed": seed}, {"greedy": scores(0.6, style), "votes": vote})


def cells(text: str, row: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_styles_and_samples_are_pooled_over_seeds():
    found = [voting("medium", 0.50, 0.70), voting("medium", 0.52, 0.74, "1"), voting("short", 0.4, 0.4)]
    row = cells(pipeline_tables.styles(found), "medium")
    assert row[0].startswith("**60.0%** [58.0, 62.0]") and row[1].startswith("**51.0%** [41.0, 61.0] (50.0 to 52.0)")
    assert row[2].startswith("**72.0%**") and row[3:] == ["+21.0", row[4], "26.2"] and row[4].startswith("**95.0%**")
    assert cells(pipeline_tables.styles(found), "long") == ["-"] * 6
    many = cells(pipeline_tables.samples(found), "64")
    assert [cell[:9] for cell in many] == ["**40.0%**", "**72.0%**", "-", "**95.0%**"]


def reranked(**stages: Reranking) -> dict:
    return result("verifiers", {}, {name: written(write_chosen, found) for name, found in stages.items()})


def write_chosen(found: Reranking, directory: Path) -> None:
    vote_report.write_rerank(found, "chosen on 250 validation problems", directory)


def test_methods_are_pooled_over_the_k_that_each_seed_chose():
    def of(k: int, accuracy: float) -> dict:
        methods = (
            Ranking(f"RR.Top-{k}", accuracy, 0.0, 1.0, 0, 64, 1000.0, k),
            Ranking("RR.All", 0.1, 0.0, 1.0, 0, 64, 1000.0),
            Ranking("pass@64", 0.9, 0.0, 1.0, 0, 0, 1000.0, ceiling=True),
        )
        gain = Difference(f"RR.Top-{k}", "RR.All", accuracy - 0.1, accuracy - 0.2, accuracy)
        return reranked(rerank_small=Reranking(1000, methods, (gain,)))

    found = [of(2, 0.5), of(8, 0.7)]
    text = pipeline_tables.reranking(found)
    assert cells(text, "RR.Top-K")[0].startswith("**60.0%**") and cells(text, "RR.Top-K")[1:] == ["-"] * 3
    assert cells(text, "RR.All")[0].startswith("**10.0%**") and cells(text, "majority")[0] == "-"
    assert cells(text, "pass@64: a ceiling")[0].startswith("**90.0%**")
    text = pipeline_tables.differences(found)
    assert cells(text, "RR.Top-K over RR.All") == ["**+50.0** [+40.0, +60.0] (+40.0 to +60.0)", "-", "-", "-"]
    assert cells(text, "W.RR.MajK over majority") == ["-"] * 4


def test_verifiers_show_their_calibration():
    def of(scores: list[float], correct: list[bool]) -> dict:
        calibration = calibrate(scores, correct, [5] * len(scores), ["a"] * len(scores))
        report = written(reliability.write_report, calibration)
        return result("verifiers", {}, {"test_small": report, "verifier_small": {"flops": 2e12}})

    classes = [True, True, False, False]
    ordered, reversed_pair = of([0.9, 0.8, 0.2, 0.1], classes), of([0.9, 0.2, 0.8, 0.1], classes)
    text = pipeline_tables.verifiers([ordered, reversed_pair, of([0.9, 0.9], [True, True])])
    auroc, answer, checker, within, length_auroc, *_, flops = cells(text, "63k")
    assert (
        auroc == within == "**0.875** (0.750 to 1.000)"
        and length_auroc == "**0.500** (0.500 to 0.500)"
        and answer == checker == "-"
        and flops == "2.0"
    )


def test_sequential_training_is_beside_its_control():
    reports = {
        "test_sequential": scores(0.7),
        "test_control": scores(0.8),
        "verifier": {"flops": 1e12},
        "sequential": {"best_step": 300, "flops": 5e11},
        "control": {"best_step": 900, "flops": 2e12},
    }
    text = pipeline_tables.sequential([result("sequential", {"examples": "3000"}, reports)])
    all_examples, few, over_all, over_few, peak, flops = cells(text, "verifier, then generator")
    assert few.startswith("**70.0%**") and (all_examples, over_all, peak, flops) == ("-", "-", "300", "1.50")
    assert over_few == "**-10.0** [-12.8, -7.2] (1 seed)"
    _, few, _, over_few, _, flops = cells(text, "more generator: the control")
    assert few.startswith("**80.0%**") and over_few == "-" and flops == "2.00"


def test_tables_need_no_results_and_count_hours():
    for name in pipeline_tables.TABLES:
        lines = pipeline_tables.render(name, []).split("\n\n")[0].split("\n")
        assert len({line.count("|") for line in lines}) == 1
    assert cells(pipeline_tables.cost([voting("long", 0.1, 0.2)]), "all") == ["1", "1.0"]
    text = "<!-- table voting_styles --><!-- end -->"
    assert "**51.0%**" in document.fill_tables(text, [], [voting("medium", 0.51, 0.7)])


def test_result_of_a_pipeline_is_complete_or_refused(tmp_path):
    more = {"result_hash": "x", "peak_bytes": 1, "made_with": {"cpu": "a CPU"}}
    whole = voting("long", 0.1, 0.2) | more
    write_result(tmp_path / "a" / "0.json", whole)
    assert pipeline_tables.results(tmp_path) == [whole]
    del whole["stages"]["votes"]["report"]
    write_result(tmp_path / "a" / "0.json", whole)
    with pytest.raises(UserError, match='0.json is corrupt ."stages" is .*delete it and rerun its command'):
        read_pipeline_result(tmp_path / "a" / "0.json")
