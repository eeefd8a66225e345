"""Trains and scores at once, with the checkpoint of a run that is there already: a stand-in for a sweep's commands.

python tests/helpers/sweep_command.py SHIPPED_RUN COMMAND ARGUMENT...: it starts fast, because it imports neither
explainft nor JAX. A command that is neither train nor eval writes its arguments and what the files among them hold to
its --output, as JSON.
"""

import json
import shutil
import signal
import sys
import time
from pathlib import Path


def _train(shipped_run: Path, run: Path, steps: int) -> None:
    """A run named "failing" fails; one named "slow" waits until it is stopped, and another start completes it."""
    if run.name == "failing":
        sys.exit("TASK_FEATURE_LENGTHS inputs=8 is too short")
    metrics = run / "metrics.jsonl"
    if not run.exists():
        shutil.copytree(shipped_run, run, ignore=shutil.ignore_patterns("metrics.jsonl", "inference_eval"))
    if run.name == "slow" and not metrics.exists():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        _append(metrics, {"step": 1, "examples": 8, "seconds": 1.0, "loss": 1.0})
        time.sleep(60)
    if metrics.exists() and f'"step": {steps},' in metrics.read_text():
        print("nothing to train")
    else:
        _append(metrics, {"step": steps, "examples": 8 * steps, "seconds": 2.0, "loss": 0.5})


def _evaluate(run: Path, mixture: str, steps: int) -> None:
    metrics = {"step": steps, "exact_match": 0.5, "exact_match_low": 0.25, "exact_match_high": 0.75, "n": 4}
    _append(run / "inference_eval" / f"{mixture}-metrics.jsonl", metrics)
    target = {"expression": "[MIN 4 7 ]", "answer": 4, "style": "medium", "modulus": 10}
    row = {"input": {}, "target": target, "prediction": "Final answer: 4"}
    (run / "inference_eval" / f"{mixture}-{steps:06d}.jsonl").write_text(json.dumps(row) + "\n")


def _append(file: Path, row: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def _write(command: str, arguments: tuple[str, ...]) -> None:
    """An output named failing.json fails; one named slow.json waits to be killed, and another start completes it."""
    output = Path(arguments[arguments.index("--output") + 1])
    if output.name == "failing.json":
        sys.exit("no samples")
    started = output.with_name("started")
    if output.name == "slow.json" and not started.exists():
        started.touch()
        time.sleep(60)
    read = {word: Path(word).read_text() for word in arguments if Path(word).is_file()}
    output.write_text(json.dumps({"command": [command, *arguments], "read": read}))


def _main(shipped_run: str, command: str, *arguments: str) -> None:
    if command == "train":
        macros = dict(word.removeprefix("--gin.").split("=", 1) for word in arguments)
        _train(Path(shipped_run), Path(macros["MODEL_DIR"]), int(macros["TRAIN_STEPS"]))
    elif command != "eval":
        _write(command, arguments)
    else:
        run, mixture = arguments[0], arguments[arguments.index("--mixture") + 1]
        steps = max(json.loads(line)["step"] for line in (Path(run) / "metrics.jsonl").read_text().splitlines())
        _evaluate(Path(run), mixture, steps)


if __name__ == "__main__":
    _main(*sys.argv[1:])
