"""Dataset generation: the throughput of `explainft data build` with one process and with two.

    python -m benchmarks.dataset --examples 200000

The whole command is timed, including the start of Python and TensorFlow.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import side_by_side
from benchmarks.side_by_side import Contender, Result, Results, Row


def build(args: argparse.Namespace, processes: int):
    directory = Path(args.directory, f"data-{processes}")

    def repeat() -> Result:
        shutil.rmtree(directory, ignore_errors=True)
        command = [sys.executable, "-m", "explainft.cli.main", "data", "build", f"--config=listops30-{args.examples}"]
        command += [f"--processes={processes}", f"--tfds_data_dir={directory}"]
        built = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        splits = json.loads((built / "dataset_info.json").read_text())["splits"]
        examples = sum(int(n) for split in splits for n in split["shardLengths"])
        return {"work": examples, "examples": examples, "bytes": sum(int(s["numBytes"]) for s in splits)}

    return repeat


def check(results: Results) -> list[str]:
    sizes = {(repetition["examples"], repetition["bytes"]) for found in results.values() for repetition in found}
    return [] if len(sizes) == 1 else [f"(examples, bytes) differ: {sorted(sizes)}"]


def facts(results: Results, args: argparse.Namespace) -> dict[str, float]:
    one, two = (statistics.median(repetition["seconds"] for repetition in found[1:]) for found in results.values())
    return {"throughput of two processes relative to one": one / two}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.set_defaults(warm_ups=1)
    parser.add_argument("--examples", type=int, default=98_000, help="of the training split")
    contenders = (
        Contender("explainft", lambda args: build(args, 1)),
        Contender("explainft, 2 processes", lambda args: build(args, 2)),
    )
    side_by_side.main(Row("example", contenders, check=check, facts=facts), parser)
