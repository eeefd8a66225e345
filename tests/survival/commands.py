"""Commands that are killed at random moments, and rerun until they end.

    python -m tests.survival.commands --kills 50            # of each command
    python -m tests.survival.commands convert --kills 5

A row of the table has the kills, the reruns that ended, and what was wrong: an exit status, an output that differs from
that of an undisturbed command, or a scratch file or directory that stayed.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).parent.parent.parent
SHIPPED = str(ROOT / "explainft" / "pretrained" / "medium_tiny")
TIMES = re.compile(rb'"[\w/]*seconds[\w/]*": [0-9.e+-]+|[0-9.]+ s of training')
COMPLETE = re.compile(" exists; choose (a new directory|another --output|another --name)")
SCRATCH = re.compile(r"incomplete|orbax-checkpoint-tmp|\.old$|\.journal$")
NOT_COMPARED = re.compile(r"events\.out\.tfevents|\.log$|lock$|/ocdbt|/d/|_METADATA|_sharding|_CHECKPOINT|_success")


class Command(NamedTuple):
    """A command line of explainft. {out} is the directory of its outputs, {shared} of what all commands read."""

    words: str
    compared: str = "."  # the part of the directory of outputs that must not differ


COMMANDS = {
    "build": Command("data build --config tiny-500 --tfds_data_dir {out}/data --processes 2"),
    "import": Command(
        "data import train={shared}/train.jsonl test={shared}/test.jsonl --name quiz --problem math"
        " --tfds_data_dir {out}/data"
    ),
    "vocab": Command("vocab build quiz --size 300 --output {out}/words.model --tfds_data_dir {shared}/data"),
    "train": Command(
        "train --gin_file=gin/medium_tiny.gin --gin.MODEL_DIR={out}/run --gin.TRAIN_STEPS=12 --gin.WARMUP_STEPS=2"
        " --gin.EVAL_PERIOD=6 --gin.CHECKPOINT_PERIOD=3 --gin.BATCH_SIZE=4 --gin.EMB_DIM=16 --gin.MLP_DIM=16"
        " --gin.EVALUATOR_NUM_EXAMPLES=8 --tfds_data_dir {shared}/data",
        "run/inference_eval",
    ),
    "convert": Command(f"convert {SHIPPED} --to t5x {{out}}/t5x"),
    "export": Command(f"export {SHIPPED} {{out}}/exported", "exported/vocabulary.model"),
    "sample": Command(
        f"sample {SHIPPED} --mixture explained_tiny_medium_eval_test_compact --num_examples 16 --num_samples 4"
        " --batch_size 16 --output {out}/samples.jsonl --tfds_data_dir {shared}/data"
    ),
    "transfer": Command(
        f"transfer {SHIPPED} --evaluations explained_tiny_none_eval_test_compact,explained_tiny_short_eval_test_compact"
        " --num_examples 8 --jobs 1 --output {out}/transfer --tfds_data_dir {shared}/data",
        "transfer/cells",
    ),
    "teach": Command(
        f"teach --method cote --teacher {SHIPPED} --input {{shared}}/train.jsonl --exemplars listops"
        " --output {out}/taught.jsonl"
    ),
}


def start(command: Command, out: Path, shared: Path) -> subprocess.Popen:
    words = command.words.format(out=out, shared=shared).split()
    environment = {**os.environ, "EXPLAINFT_CACHE_DIR": str(out / "cache"), "TFDS_DATA_DIR": str(shared / "data")}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(shared / "compiled")
    return subprocess.Popen(
        [sys.executable, "-m", "explainft.cli.main", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # workers are killed with it
    )


def outputs(out: Path, compared: str) -> dict[str, str]:
    """Returns a digest of each output, without times."""
    found = {}
    for file in sorted((out / compared).rglob("*") if (out / compared).is_dir() else [out / compared]):
        name = str(file.relative_to(out))
        if file.is_file() and not NOT_COMPARED.search(name) and not name.startswith("cache/"):
            content = TIMES.sub(b"", file.read_bytes().replace(str(out).encode(), b"OUT"))
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def leftovers(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob("*") if SCRATCH.search(path.name)]


def survive(name: str, kills: int, shared: Path, base: Path, rng: random.Random) -> tuple[int, int, list[str]]:
    """Kills one command `kills` times; returns the kills, the ends, and what was wrong."""
    command, wrong = COMMANDS[name], []
    seconds, expected = 0.0, {}
    for again in range(2):  # the first compiles
        out = base / f"{name}-undisturbed-{again}"
        out.mkdir()
        began = time.monotonic()
        process = start(command, out, shared)
        _, errors = process.communicate()
        if process.returncode:
            return 0, 0, [f"undisturbed: {errors.strip().splitlines()[-1:]}"]
        seconds, expected = time.monotonic() - began, outputs(out, command.compared)
    killed, ends, run, killed_before = 0, 0, 0, False
    out = base / f"{name}-{run}"
    out.mkdir()
    while killed < kills or ends == 0 or killed_before:
        killed_before = False
        process = start(command, out, shared)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0, seconds) if killed < kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            killed_before = True
            continue
        # Killed at its very end, a command has written all that it would write: the rerun refuses to replace it.
        if process.returncode and not COMPLETE.search(errors):
            wrong.append(f"exit status {process.returncode}: {errors.strip().splitlines()[-1:]}")
        else:
            ends += 1
            differing = expected.items() ^ outputs(out, command.compared).items()
            wrong += [f"{file} differs" for file, _ in sorted(differing)[:1]]
            wrong += [f"{path} stayed" for path in leftovers(out)[:1]]
        run += 1
        out = base / f"{name}-{run}"
        out.mkdir()
    return killed, ends, wrong


def prepare(shared: Path) -> None:
    """Makes what the commands read."""
    rows = [{"question": f"[MAX {i} {i % 7} ]", "answer": max(i, i % 7), "id": str(i)} for i in range(40)]
    for name, part in (("train", rows[:30]), ("test", rows[30:])):
        (shared / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    for words in (
        "data build --config tiny-500 --tfds_data_dir {shared}/data",
        "data build --config tiny --tfds_data_dir {shared}/data",
        "data import train={shared}/train.jsonl --name quiz --problem math --tfds_data_dir {shared}/data",
    ):
        process = start(Command(words), shared, shared)
        _, errors = process.communicate()
        assert not process.returncode, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", choices=[[], *COMMANDS], help="default: all")
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    print("| command | kills | reruns that ended | wrong |\n| :-- | --: | --: | :-- |")
    failed = False
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        base, shared = Path(folder), Path(folder) / "shared"
        shared.mkdir()
        prepare(shared)
        for name in args.commands or COMMANDS:
            killed, ends, wrong = survive(name, args.kills, shared, base, random.Random(args.seed))
            failed |= bool(wrong) or killed < args.kills
            print(f"| {name} | {killed} | {ends} | {'; '.join(wrong) or 'nothing'} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
