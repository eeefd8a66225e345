"""The survival suite: `python -m tests.survival --kills 100` kills a short run that often, and prints the counts."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from explainft.data.dataset import ExplainedListops
from tests.survival import suite


def build_tiny(folder: str) -> None:
    """The config `tiny` with few examples."""
    config = ExplainedListops.builder_configs["tiny"]
    config.train_examples, config.eval_examples = 600, 40
    ExplainedListops(config="tiny", data_dir=folder).download_and_prepare()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    began, counts = time.monotonic(), suite.Counts()
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        os.environ["EXPLAINFT_CACHE_DIR"] = f"{folder}/cache"
        build_tiny(f"{folder}/tfds")
        for counts in suite.kill_at_random(Path(folder), f"{folder}/tfds", args.kills, args.seed):
            print(f"\r{counts.kills.total()} kills, {counts.ends} ends", end="", file=sys.stderr, flush=True)
    print(f"\n{counts}\n{time.monotonic() - began:.0f} s")
    sys.exit(bool(counts.wrong) or counts.kills.total() < args.kills)


if __name__ == "__main__":
    main()
