"""Start-up time: `explainft --help`, and the first train step of a tiny run with warm caches.

    python -m benchmarks.start

Neither may import TensorFlow. The first step has ended when its line is in metrics.jsonl.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import side_by_side
from benchmarks.side_by_side import Contender, Result, Results, Row

EXPLAINFT = [sys.executable, "-m", "explainft.cli.main"]
LISTING = {"PYTHONPROFILEIMPORTTIME": "1"}  # Python lists each import on standard error


def set_up_help(args: argparse.Namespace):
    listed = subprocess.run([*EXPLAINFT, "--help"], env=os.environ | LISTING, capture_output=True, text=True).stderr
    heavy = imports_tensorflow(listed)

    def repeat() -> Result:
        shown = subprocess.run([*EXPLAINFT, "--help"], check=True, capture_output=True, text=True).stdout
        assert "train" in shown
        return {"work": 1, "tensorflow": heavy}

    return repeat


def set_up_first_step(args: argparse.Namespace):
    run, log = Path(args.directory, "run"), Path(args.directory, "train.log")
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(args.directory, "compiled"))}
    command = [*EXPLAINFT, "train", f"--gin_file={args.recipe}", f"--gin.MODEL_DIR={run}", "--gin.LOG_PERIOD=1"]

    def train(env: dict[str, str]) -> None:
        """Runs until the first train step has ended."""
        with open(log, "w") as output:
            process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        try:
            while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text().strip():
                if process.poll() is not None:
                    sys.exit(f"{' '.join(command)} stopped:\n{log.read_text()[-2000:]}")
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(run, ignore_errors=True)

    train(env)  # writes the token cache and the compiled step
    train(env | LISTING)
    heavy = imports_tensorflow(log.read_text())

    def repeat() -> Result:
        train(env)
        return {"work": 1, "tensorflow": heavy}

    return repeat


def imports_tensorflow(listed: str) -> bool:
    assert "import time:" in listed
    return re.search(r"\| +tensorflow$", listed, re.MULTILINE) is not None


def check(results: Results) -> list[str]:
    return [f"{name} imports TensorFlow" for name, found in results.items() if found[0]["tensorflow"]]


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--recipe", default="gin/medium_tiny.gin", help="from the repository's root")
    contenders = (
        Contender("explainft --help", set_up_help, unit="start"),
        Contender("explainft train, first step", set_up_first_step, unit="start"),
    )
    side_by_side.main(Row("start", contenders, check=check), parser)
