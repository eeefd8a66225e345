"""Runs systems side by side, turn by turn, each in a process of its own, and compares what they did and how fast.

A row of the comparison is one file beside this one. It names its systems; a system's `set_up` returns `repeat`, and
each call of `repeat()` does the work once and returns {"work": how much of it, ...what shows that it was done}. All
systems take turns, A B C A B C, so that they see the same machine. The idle ones wait for a line on standard input.
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
PEER = "Hugging Face"  # beside it every other system is put, where a row has it
# What a table names beside Python and JAX, where it has a system whose name holds this.
MADE_OF = {
    "Hugging Face": ("torch", "transformers"),
    "torch": ("torch",),
    "CTranslate2": ("ctranslate2",),
    "T5X": ("t5x",),
}
# OpenMP's threads spin for 0.2 s after their last work: the next system's turn begins when they are asleep. Better than
# forbidding them to spin, which would take from a peer what it has by default.
PAUSE = 0.5
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}

Result = dict[str, Any]
Results = dict[str, list[Result]]  # of each system: its first warm-up, then one for each turn


@dataclasses.dataclass(frozen=True)
class System:
    """One side. `needs` are modules without which it is left out. `unit`: what it does is no part of the comparison."""

    name: str
    set_up: Callable[[argparse.Namespace], Callable[[], Result]]
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Systems, ours first, that do work of one unit.

    `prepare` makes what they share in args.folder, in a process of its own. `check` returns what is wrong with the
    results so far, one line each: it is asked before the first turn and after the last. `facts` are derived from all.
    """

    unit: str
    systems: tuple[System, ...]
    prepare: Callable[[argparse.Namespace], None] | None = None
    check: Callable[[Results], list[str]] = lambda results: []
    facts: Callable[[Results, argparse.Namespace], dict[str, Any]] = lambda results, args: {}


def parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="turns that are measured")
    parser.add_argument("--warm_ups", type=int, default=2, help="turns before them, at least one")
    parser.add_argument("--only", action="append", help="a system's name; may be repeated; ours is always measured")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="default: all")
    parser.add_argument("--profile", action="store_true", help="of ours alone: what one turn's time goes to")
    parser.add_argument("--output", help="the JSON file; default: benchmarks/results/ROW.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


def main(row: Row, arguments: argparse.ArgumentParser) -> None:
    args = arguments.parse_args()
    if args.worker == "prepare":
        assert row.prepare is not None
        row.prepare(args)
    elif args.worker:
        system = next(system for system in row.systems if system.name == args.worker)
        if args.profile:
            _trace(system, args)
        else:
            _serve(system, args)
    else:
        _measure(row, args)


# ---- a system's own process


def _serve(system: System, args: argparse.Namespace) -> None:
    # Libraries print on standard output as they like: the answers alone go where it led.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(result: Result, seconds: float) -> None:
        print(json.dumps({**result, "seconds": seconds, "peak_memory": peak_memory()}), file=answers, flush=True)

    repeat = system.set_up(args)
    first = repeat()
    for _ in range(args.warm_ups - 1):
        repeat()
    tell(first, 0.0)
    for _ in sys.stdin:
        begin = time.perf_counter()
        result = repeat()
        tell(result, time.perf_counter() - begin)


def _trace(system: System, args: argparse.Namespace) -> None:
    """Puts the shares of one turn's operations into args.folder."""
    import jax

    from explainft.training import profiling

    repeat = system.set_up(args)
    for _ in range(args.warm_ups):
        repeat()
    begin = time.perf_counter()
    repeat()
    seconds = time.perf_counter() - begin
    trace = Path(args.folder, "trace")
    with jax.profiler.trace(str(trace), create_perfetto_trace=True):
        repeat()
    found = {"system": system.name, "seconds": seconds, "shares": profiling.shares(trace)}
    Path(args.folder, "profile.json").write_text(json.dumps(found))


def peak_memory() -> int:
    """The most bytes that this process, or one that it started and that has ended, has held so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


# ---- the process that asks them


def _measure(row: Row, args: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers and the folder go too
    module = sys.modules["__main__"].__spec__
    assert module is not None
    command = ["python", "-m", module.name, *sys.argv[1:]]
    name = module.name.rpartition(".")[2] + ("_profile" if args.profile else "")
    output = Path(args.output) if args.output else RESULTS / f"{name}.json"
    chosen, left_out = _installed(row, args.only)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="explainft-bench-") as folder:
        start = [sys.executable, *command[1:], "--folder", folder, "--worker"]
        if row.prepare is not None:
            _note("making weights and tokens")
            subprocess.run([*start, "prepare"], env={**ENVIRONMENT, **os.environ}, check=True)
        if args.profile:
            system = next(system for system in chosen if not args.only or system.name in args.only)
            subprocess.run([*start, system.name], env={**ENVIRONMENT, **os.environ, **system.env}, check=True)
            profile = json.loads(Path(folder, "profile.json").read_text())
            report = {"command": shlex.join(command), "machine": machine(args.cores, load), "versions": versions()}
            _write({**report, **profile}, output)
            return
        workers: dict[str, Worker] = {}
        results: Results = {}
        try:
            for system in chosen:
                _note(f"setting up {system.name}")
                workers[system.name] = Worker([*start, system.name], system, Path(folder))
                results[system.name] = [workers[system.name].answer()]
            _stop_at(row.check(results))
            for turn in range(1, args.repetitions + 1):
                for name, worker in workers.items():
                    time.sleep(PAUSE)
                    results[name].append(worker.turn())
                times = ", ".join(f"{name} {found[-1]['seconds']:.2f} s" for name, found in results.items())
                _note(f"turn {turn} of {args.repetitions}: {times}")
        finally:
            for worker in workers.values():
                worker.stop()
    _stop_at(row.check(results))
    report = {
        "command": shlex.join(command),
        "repetitions": args.repetitions,
        "machine": machine(args.cores, load),
        "versions": versions(),
        "left_out": left_out,
        "systems": {s.name: _summary(results[s.name][1:], s.unit or row.unit) for s in chosen},
        "ratios": _ratios(row, chosen, results),
        "facts": row.facts(results, args),
    }
    _write(report, output)


def _write(report: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


class Worker:
    def __init__(self, command: list[str], system: System, folder: Path):
        self.name, self.log = system.name, folder / f"{system.name}.log"
        env = {**ENVIRONMENT, **os.environ, **system.env}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def turn(self) -> Result:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Result:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:  # one that is installed and fails is a mistake to mend, not a peer to leave out
            sys.exit(f"{self.name} stopped with exit status {self.process.wait()}:\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def _installed(row: Row, only: list[str] | None) -> tuple[list[System], list[str]]:
    chosen, left_out = [], []
    for system in row.systems:
        missing = [module for module in system.needs if importlib.util.find_spec(module) is None]
        if missing:
            left_out.append(f"{system.name}: {', '.join(missing)} is not installed")
            _note(f"left out: {left_out[-1]}")
        elif not only or system is row.systems[0] or system.name in only:
            chosen.append(system)
    return chosen, left_out


def _stop_at(mistakes: list[str]) -> None:
    if mistakes:
        sys.exit("the systems did not do the same:\n" + "\n".join(mistakes))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- numbers


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _summary(turns: list[Result], unit: str) -> dict[str, Any]:
    return {
        "unit": unit,
        "work": turns[0]["work"],
        "seconds": spread([turn["seconds"] for turn in turns]),
        "rate": spread([turn["work"] / turn["seconds"] for turn in turns]),
        "peak_memory": turns[-1]["peak_memory"],
        "turns": [turn["seconds"] for turn in turns],
    }


def _ratios(row: Row, systems: list[System], results: Results) -> dict[str, dict[str, float]]:
    """How many times as fast ours is: the ratio of the medians, and the smallest and largest of a single turn."""
    rates = {s.name: [turn["work"] / turn["seconds"] for turn in results[s.name][1:]] for s in systems}
    ours = rates[row.systems[0].name]
    ratios = {}
    for system in systems:
        if system is not row.systems[0] and system.unit is None:
            theirs = rates[system.name]
            by_turn = spread([a / b for a, b in zip(ours, theirs, strict=True)])
            ratios[system.name] = {**by_turn, "median": statistics.median(ours) / statistics.median(theirs)}
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
    if t5x is not None and t5x.origin is not None:  # it is run from a checkout
        found["t5x"] = _commit(Path(t5x.origin).parent)
    return found


def _commit(folder: Path) -> str:
    """The commit of the checkout, with a + where files have changed since."""
    git = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def table(report: dict[str, Any]) -> str:
    where = f"`{report['command']}`: {report['machine']['cpu']}, {report['machine']['cores']} cores"
    if "shares" in report:
        lines = [f"{where}; a turn of {report['system']}, {_rounded(report['seconds'])} s without the trace", ""]
        lines += ["| compiled operations | share of their time |", "|---|--:|"]
        found = {kind: share for kind, share in report["shares"].items() if share >= 0.01}
        lines += [f"| `{kind}` | {share:.0%} |" for kind, share in found.items()]
        return "\n".join([*lines, f"| {len(report['shares']) - len(found)} others | {1 - sum(found.values()):.0%} |"])
    peer = report["systems"].get(PEER)
    head = ["system", "rate", "seconds a turn", "explainft's rate by this one's", f"times {PEER}'s rate", "peak memory"]
    rows = []
    for name, system in report["systems"].items():
        rate = f"{_spread(system['rate'])} {system['unit']}/s"
        ratio = _spread(report["ratios"][name]) + "x" if name in report["ratios"] else ""
        of_peer = _rounded(system["rate"]["median"] / peer["rate"]["median"]) if peer and name != PEER else ""
        memory = f"{system['peak_memory'] / 2**30:.2f} GiB"
        alike = peer and system["unit"] == peer["unit"]
        rows.append([name, rate, _spread(system["seconds"]), ratio, of_peer if alike else "", memory])
    kept = [i for i, title in enumerate(head) if peer or PEER not in title]
    packages = ["commit"] if "commit" in report["versions"] else []  # not in reports of earlier versions
    packages += ["python", "jax"]
    packages += [name for part, names in MADE_OF.items() for name in names if any(part in s for s in report["systems"])]
    made_with = ", ".join(f"{name} {report['versions'][name]}" for name in dict.fromkeys(packages))
    lines = [f"{where}, {made_with}; n = {report['repetitions']}, medians [minimum, maximum]", ""]
    lines += [f"| {' | '.join(row[i] for i in kept)} |" for row in [head, ["---"] * len(head), *rows]]
    # Losses are compared to a thousandth.
    facts = {k: f"{v:.3f}" if k.startswith("loss") else _rounded(v) for k, v in report["facts"].items()}
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    lines += [f"- left out: {line}" for line in report["left_out"]]
    return "\n".join(lines)


def _spread(values: dict[str, float]) -> str:
    return f"{_rounded(values['median'])} [{_rounded(values['min'])}, {_rounded(values['max'])}]"


def _rounded(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
