"""`explainft vote` on 2,000 problems of 64 samples, from the file to the table: seconds, CPU seconds and peak memory.

    python -m benchmarks.vote

Answers are spread over 6 to 30 values a problem, and each sample has a probability and a score, so that all curves are
computed. The second file has the outputs alone, which the problem reads and compares.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.side_by_side import Contender, Result, Results, Row

COMMAND = [sys.executable, "-m", "explainft.cli.main", "vote"]
FOREIGN = "--problem", "listops", "--samples_field", "output", "--answer_field", "label"
STEPS = "".join(f"Min, smallest number of [{i}, 7] is {i}\n" for i in range(5))


def prepare(args: argparse.Namespace) -> None:
    rng = random.Random(0)
    with (
        open(Path(args.directory, "own.jsonl"), "w") as own,
        open(Path(args.directory, "outputs.jsonl"), "w") as outputs,
    ):
        for i in range(args.problems):
            gold, values = rng.randrange(10), rng.randint(6, 30)
            answers = [gold + min(int(rng.expovariate(4 / values)), values - 1) for _ in range(args.samples)]
            samples = [_sample(rng, answer, answer == gold) for answer in answers]
            sampling = {"problem": "listops", "form": None}
            row = {"id": str(i), "question": "[MAX 2 7 ]", "answer": gold, "sampling": sampling, "samples": samples}
            print(json.dumps(row), file=own)
            print(json.dumps({"id": i, "label": gold, "output": [s["text"] for s in samples]}), file=outputs)


def _sample(rng: random.Random, answer: int, correct: bool) -> dict[str, Any]:
    parsed = rng.random() < 0.95
    return {
        "text": f"{STEPS}Final answer: {answer}" if parsed else STEPS,
        "logprob_sum": -20 * rng.random(),
        "num_tokens": rng.randint(40, 90),
        "finish_reason": "stop" if parsed else "length",
        "answer": str(answer) if parsed else None,
        "correct": correct and parsed,
        "score": rng.random(),
    }


def set_up(args: argparse.Namespace, file: str, *flags: str):
    def repeat() -> Result:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(
            [*COMMAND, str(Path(args.directory, file)), *flags], check=True, capture_output=True, text=True
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"work": args.problems, "cpu_seconds": cpu, "shown": shown}

    return repeat


def check(results: Results) -> list[str]:
    return [f"{name} prints another table each time" for name, found in results.items() if len(_tables(found)) > 1]


def _tables(found: list[Result]) -> set[str]:
    return {result["shown"] for result in found}


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    return {
        f"CPU seconds of {name}": round(
            side_by_side.spread([result["cpu_seconds"] for result in found[1:]])["median"], 2
        )
        for name, found in results.items()
    }


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=64)
    contenders = (
        Contender("explainft vote, all curves", lambda args: set_up(args, "own.jsonl"), unit="problem"),
        Contender("explainft vote, outputs", lambda args: set_up(args, "outputs.jsonl", *FOREIGN), unit="problem"),
    )
    side_by_side.main(Row("problem", contenders, prepare, check, facts), parser)
