"""Runs contenders side by side, each in a process of its own, and compares their results and their speed.

A row of the comparison is one file beside this one. It names its contenders. A contender's `set_up` returns `repeat`;
each call of `repeat()` does the work once and returns {"work": its amount, ...evidence that it was done}. Repetitions
are interleaved, A B C A B C, so that all contenders see the same machine. Idle ones wait for a line on standard input.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import tables

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "explainft",
    "numpy",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "tensorflow",
    "torch",
    "transformers",
    "ctranslate2",
)
BASELINE = "Hugging Face"  # every other contender is compared with it, where a row has it
# OpenMP's threads spin for 0.2 s after their last work; the next contender starts when they sleep. Disabling the
# spinning would change a baseline's defaults.
PAUSE = 0.5
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}

Result = dict[str, Any]
Results = dict[str, list[Result]]  # per contender: one warm-up, then one result per repetition


@dataclasses.dataclass(frozen=True)
class Contender:
    """One implementation. Left out where a module of `needs` is missing; not compared where it has a `unit`."""

    name: str
    set_up: Callable[[argparse.Namespace], Callable[[], Result]]
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Contenders, explainft first, that do work of one unit.

    `prepare` writes what they share into args.directory, in a process of its own. `check` returns the failures of the
    results so far, one line each, before the first repetition and after the last. `facts` are derived from all results.
    """

    unit: str
    contenders: tuple[Contender, ...]
    prepare: Callable[[argparse.Namespace], None] | None = None
    check: Callable[[Results], list[str]] = lambda results: []
    facts: Callable[[Results, argparse.Namespace], dict[str, Any]] = lambda results, args: {}


def parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="measured repetitions")
    parser.add_argument("--warm_ups", type=int, default=2, help="unmeasured repetitions before them, at least one")
    parser.add_argument(
        "--only", action="append", help="name of a contender; may be repeated; explainft is always measured"
    )
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="default: all")
    parser.add_argument("--profile", action="store_true", help="trace one repetition of explainft alone")
    parser.add_argument("--output", help="the JSON file; default: benchmarks/results/ROW.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser


def main(row: Row, arguments: argparse.ArgumentParser) -> None:
    args = arguments.parse_args()
    if args.worker == "prepare":
        assert row.prepare is not None
        row.prepare(args)
    elif args.worker:
        contender = next(contender for contender in row.contenders if contender.name == args.worker)
        if args.profile:
            _trace(contender, args)
        else:
            _serve(contender, args)
    else:
        _measure(row, args)


# ---- A contender's process.


def _serve(contender: Contender, args: argparse.Namespace) -> None:
    # Libraries print on standard output, so results go to a duplicate of it.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(result: Result, seconds: float) -> None:
        print(json.dumps({**result, "seconds": seconds, "peak_memory": peak_memory()}), file=output, flush=True)

    repeat = contender.set_up(args)
    first = repeat()
    for _ in range(args.warm_ups - 1):
        repeat()
    send(first, 0.0)
    for _ in sys.stdin:
        begin = time.perf_counter()
        result = repeat()
        send(result, time.perf_counter() - begin)


def _trace(contender: Contender, args: argparse.Namespace) -> None:
    """Writes the time fraction of each operation of one repetition into args.directory."""
    import jax

    from explainft.training import profiling

    repeat = contender.set_up(args)
    for _ in range(args.warm_ups):
        repeat()
    begin = time.perf_counter()
    repeat()
    seconds = time.perf_counter() - begin
    trace = Path(args.directory, "trace")
    with jax.profiler.trace(str(trace), create_perfetto_trace=True):
        repeat()
    found = {"contender": contender.name, "seconds": seconds, "fractions": profiling.time_fractions(trace)}
    Path(args.directory, "profile.json").write_text(json.dumps(found))


def peak_memory() -> int:
    """Returns the peak resident bytes of this process and of its ended children."""
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


# ---- The process that drives them.


def _measure(row: Row, args: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and directory are removed too
    module = sys.modules["__main__"].__spec__
    assert module is not None
    command = ["python", "-m", module.name, *sys.argv[1:]]
    name = module.name.rpartition(".")[2] + ("_profile" if args.profile else "")
    output = Path(args.output) if args.output else RESULTS / f"{name}.json"
    chosen, left_out = _installed(row, args.only)
    report = {
        "command": shlex.join(command),
        "repetitions": args.repetitions,
        "machine": machine(args.cores, os.getloadavg()[0]),
        "versions": versions(),
        "left_out": left_out,
    }
    with tempfile.TemporaryDirectory(prefix="explainft-bench-") as directory:
        start = [sys.executable, *command[1:], "--directory", directory, "--worker"]
        if row.prepare is not None:
            _log("writing weights and tokens")
            subprocess.run([*start, "prepare"], env={**ENVIRONMENT, **os.environ}, check=True)
        if args.profile:
            contender = next(c for c in chosen if not args.only or c.name in args.only)
            subprocess.run([*start, contender.name], env={**ENVIRONMENT, **os.environ, **contender.env}, check=True)
            _write({**report, **json.loads(Path(directory, "profile.json").read_text())}, output)
            return
        results = _repeat_all(row, chosen, start, args.repetitions, Path(directory))
    report |= {
        "contenders": {c.name: _summary(results[c.name][1:], c.unit or row.unit) for c in chosen},
        "ratios": _ratios(row, chosen, results),
        "facts": row.facts(results, args),
    }
    _write(report, output)


def _repeat_all(row: Row, contenders: list[Contender], start: list[str], repetitions: int, directory: Path) -> Results:
    """Returns the results of the interleaved repetitions; exits where `row.check` fails."""
    workers: dict[str, Worker] = {}
    results: Results = {}
    try:
        for contender in contenders:
            _log(f"setting up {contender.name}")
            workers[contender.name] = Worker([*start, contender.name], contender, directory)
            results[contender.name] = [workers[contender.name].receive()]
        _exit_on(row.check(results))
        for repetition in range(1, repetitions + 1):
            for name, worker in workers.items():
                time.sleep(PAUSE)
                results[name].append(worker.repeat())
            times = ", ".join(f"{name} {found[-1]['seconds']:.2f} s" for name, found in results.items())
            _log(f"repetition {repetition} of {repetitions}: {times}")
    finally:
        for worker in workers.values():
            worker.stop()
    _exit_on(row.check(results))
    return results


def _write(report: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(tables.contender_table(report))
    for name, value in report.get("facts", {}).items():
        print(f"{name}: {value}")


class Worker:
    def __init__(self, command: list[str], contender: Contender, directory: Path):
        self.name, self.log = contender.name, directory / f"{contender.name}.log"
        env = {**ENVIRONMENT, **os.environ, **contender.env}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def repeat(self) -> Result:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.receive()

    def receive(self) -> Result:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:  # an installed contender that fails is an error, not a contender to leave out
            sys.exit(f"{self.name} stopped with exit status {self.process.wait()}:\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def _installed(row: Row, only: list[str] | None) -> tuple[list[Contender], list[str]]:
    chosen, left_out = [], []
    for contender in row.contenders:
        missing = [module for module in contender.needs if importlib.util.find_spec(module) is None]
        if missing:
            left_out.append(f"{contender.name}: {', '.join(missing)} is not installed")
            _log(f"left out: {left_out[-1]}")
        elif not only or contender is row.contenders[0] or contender.name in only:
            chosen.append(contender)
    return chosen, left_out


def _exit_on(failures: list[str]) -> None:
    if failures:
        sys.exit("the results of the contenders differ:\n" + "\n".join(failures))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- Summaries.


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _summary(results: list[Result], unit: str) -> dict[str, Any]:
    return {
        "unit": unit,
        "work": results[0]["work"],
        "seconds": spread([result["seconds"] for result in results]),
        "rate": spread(_rates(results)),
        "peak_memory": results[-1]["peak_memory"],
        "repetition_seconds": [result["seconds"] for result in results],
    }


def _rates(results: list[Result]) -> list[float]:
    return [result["work"] / result["seconds"] for result in results]


def _ratios(row: Row, contenders: list[Contender], results: Results) -> dict[str, dict[str, float]]:
    """Returns explainft's rate relative to each contender's: the ratio of medians, and the extremes of repetitions."""
    rates = {c.name: _rates(results[c.name][1:]) for c in contenders}
    explainft = rates[row.contenders[0].name]
    ratios = {}
    for contender in contenders:
        if contender is not row.contenders[0] and contender.unit is None:
            other = rates[contender.name]
            extremes = spread([a / b for a, b in zip(explainft, other, strict=True)])
            ratios[contender.name] = {**extremes, "median": statistics.median(explainft) / statistics.median(other)}
    return ratios


def machine(cores: int, load: float) -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": cores,
        "memory_gib": round(memory, 1),
        "load_at_start": load,
        "os": platform.system(),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["commit"] = _commit(Path(__file__).parent)
    t5x = importlib.util.find_spec("t5x")
    if t5x is not None and t5x.origin is not None:  # it runs from a checkout
        found["t5x"] = _commit(Path(t5x.origin).parent)
    return found


def _commit(directory: Path) -> str:
    """Returns the commit of the checkout, with a + where files have changed since."""
    git = ["git", "-C", str(directory), "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
