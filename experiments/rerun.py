"""Train and score random trials of results/ again with this checkout, and compare with their files.

    python -m experiments.rerun --draw 0               # two trials; runs and results go to rerun/
    python -m experiments.rerun --draw 1 --trials 3

Exit code 1 where a new exact match is outside the interval of the file's. With the same seed, data, code and
kind of processor they are equal; else a run is another one, as with another seed.
"""

import argparse
import random
import sys
from pathlib import Path

import jax

from experiments.accuracy import ROOT, Result, results
from explainft.core.errors import UserError
from explainft.core.process_pool import available_cores
from explainft.recipes import recipe
from explainft.sweeps import sweep
from explainft.sweeps.cost_model import make_trial_plans
from explainft.sweeps.runner import Runner
from explainft.sweeps.trial import read_trial_result


def sample_trials(found: list[Result], draw: int, trials: int) -> list[Result]:
    """Samples some of `found`, which is in the order of the files' names.

    Students are left out: what they train on is made by a pipeline.
    """
    found = [result for result in found if not result["sweep"].startswith("students_")]
    if not 1 <= trials <= len(found):
        raise UserError(f"--trials={trials} must be 1 to {len(found)}, the trials of results/")
    return random.Random(draw).sample(found, trials)


def run(result: Result, folder: Path) -> Result:
    """What the trial's commands give now; a second call goes on where the first was stopped."""
    grid: sweep.Sweep = recipe.load([str(ROOT / "experiments" / f"{result['sweep']}.gin")], []).build(sweep.Sweep)()
    [trial] = [c for c in grid.trials(result["sweep"], folder / "runs") if c.axis_values == result["axis_values"]]
    plans = make_trial_plans([trial])
    again = read_trial_result(folder / "results", trial, plans[trial.name])
    if again is not None:
        return again
    # One core, as in a sweep of as many jobs as cores: sums over more cores are of another order.
    if sweep.run_trials([trial], plans, Runner(available_cores()), folder / "results"):
        raise UserError(f"{trial.name} failed; its log is {trial.log}")
    return run(result, folder)


def compared(before: Result, again: Result) -> list[tuple[str, bool]]:
    """A line for each evaluation, and whether the new exact match is inside the interval of the one before."""
    lines = []
    for task, old in before["evaluations"].items():
        low, high, new = old["exact_match_low"], old["exact_match_high"], again["evaluations"][task]["exact_match"]
        inside = low <= new <= high
        words = "inside" if inside else "OUTSIDE"
        lines.append((f"{task}: {old['exact_match']:.1%}, again {new:.1%}, {words} [{low:.1%}, {high:.1%}]", inside))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, required=True, help="a number that says which trials are sampled")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("rerun"))
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    ok = True
    try:
        for before in sample_trials(results(), args.draw, args.trials):
            print(f"{before['sweep']} {before['axis_values']}", flush=True)
            for line, inside in compared(before, run(before, args.folder)):
                print(f"  {line}", flush=True)
                ok &= inside
    except UserError as e:
        parser.error(e.line)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
