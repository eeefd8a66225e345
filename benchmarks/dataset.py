"""Dataset generation: what `explainft data build` makes in a second, with one process and with two.

    python -m benchmarks.dataset --examples 200000

The whole command is timed, the start of Python and TensorFlow included.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import side_by_side
from benchmarks.side_by_side import Result, Results, Row, System


def build(args: argparse.Namespace, processes: int):
    folder = Path(args.folder, f"data-{processes}")

    def repeat() -> Result:
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "explainft.cli.main", "data", "build", f"--config=listops30-{args.examples}"]
        command += [f"--processes={processes}", f"--tfds_data_dir={folder}"]
        made = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        splits = json.loads((made / "dataset_info.json").read_text())["splits"]
        examples = sum(int(n) for split in splits for n in split["shardLengths"])
        return {"work": examples, "examples": examples, "bytes": sum(int(s["numBytes"]) for s in splits)}

    return repeat


def check(results: Results) -> list[str]:
    made = {(turn["examples"], turn["bytes"]) for found in results.values() for turn in found}
    return [] if len(made) == 1 else [f"(examples, bytes) differ: {sorted(made)}"]


def facts(results: Results, args: argparse.Namespace) -> dict[str, float]:
    one, two = (statistics.median(turn["seconds"] for turn in found[1:]) for found in results.values())
    return {"rate of two processes for each of one's": one / two}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.set_defaults(warm_ups=1)
    parser.add_argument("--examples", type=int, default=98_000, help="of the training split; the others have their own")
    systems = (
        System("explainft", lambda args: build(args, 1)),
        System("explainft, 2 processes", lambda args: build(args, 2)),
    )
    side_by_side.main(Row("example", systems, check=check, facts=facts), parser)
