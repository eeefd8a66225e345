"""How building, tokenizing and batching scale with the number of examples: seconds and peak anonymous memory.

python -m benchmarks.data_at_size 10000 100000 1000000 [--tokens]     # Linux; 1.2 GB of temporary files a million

Anonymous memory excludes file-backed pages. It is summed over the processes of a command every half second.
benchmarks/results/data_at_size.json holds the rows; benchmarks.document fills docs/guides/data.md from it, and
benchmarks.growth draws it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import RESULTS, machine, versions

TASKS = """
import tasks
tasks.register("{config}")
"""
BATCHES = """
import time
from explainft.data import token_cache
from explainft.data.batches import Batches
cache = token_cache.load("explained_{task}_medium_compact", "train", "tasks_at_size", data_dir="{data_dir}")
started = time.monotonic()
lengths = {{"inputs": 256, "targets": 1024}}
batches = Batches(cache, lengths, 32, 0, packed=True)
print(f"packed {{len(cache):,}} examples into {{len(batches.packing):,}} rows in {{time.monotonic() - started:.1f}} s")
for step in range(200):
    batches[step]
"""


def anonymous_kib(root: int) -> int:
    """Returns the anonymous memory of a process and its descendants."""
    parents, sizes = {}, {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                fields = dict(line.split(":", 1) for line in (directory / "status").read_text().splitlines())
                parents[int(directory.name)] = int(fields["PPid"])
                sizes[int(directory.name)] = int(fields.get("RssAnon", "0 kB").split()[0])
            except (OSError, ValueError):  # the process has ended
                continue
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(sizes.get(pid, 0) for pid in family)


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Returns the seconds and the peak anonymous memory in MiB of a command."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    while process.poll() is None:
        peak = max(peak, anonymous_kib(process.pid))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(process.returncode)
    return time.monotonic() - started, peak / 1024


def table(report: dict[str, Any]) -> str:
    machine_info = report["machine"]
    lines = [f"`{report['command']}`: {machine_info['cpu']}, {machine_info['cores']} cores", ""]
    lines += ["| examples | work | seconds | examples/s | peak MiB |", "|--:|:--|--:|--:|--:|"]
    for row in report["rows"]:
        n, seconds = row["examples"], row["seconds"]
        lines.append(f"| {n:,} | {row['work']} | {seconds:,.1f} | {n / seconds:,.0f} | {row['peak_mib']:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=int, nargs="+")
    parser.add_argument("--tokens", action="store_true", help="also measure the token cache, packing and 200 batches")
    args = parser.parse_args()
    report = {
        "command": shlex.join(["python", "-m", "benchmarks.data_at_size", *sys.argv[1:]]),
        "machine": machine(len(os.sched_getaffinity(0)), os.getloadavg()[0]),
        "versions": versions(),
        "rows": [],
    }
    for n in args.examples:
        config = f"listops30-{n}"
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "tasks_at_size.py").write_text(TASKS.format(config=config))
            path = os.pathsep.join([directory, *filter(None, [os.environ.get("PYTHONPATH")])])
            environment = {
                **os.environ,
                "PYTHONPATH": path,
                "EXPLAINFT_CACHE_DIR": f"{directory}/cache",
                "JAX_PLATFORMS": "cpu",
            }
            build = [sys.executable, "-m", "explainft.cli.main", "data", "build", "--config", config]
            work = {"build": [*build, "--tfds_data_dir", directory]}
            if args.tokens:
                batches = [sys.executable, "-c", BATCHES.format(task=config.replace("-", "_"), data_dir=directory)]
                work |= {"tokenize, pack, 200 batches": batches, "pack, 200 batches": batches}
            for name, command in work.items():
                seconds, peak = measure(command, environment)
                report["rows"].append({"examples": n, "work": name, "seconds": seconds, "peak_mib": peak})
                print(f"{n:,} examples, {name}: {seconds:.1f} s, {peak:,.0f} MiB", file=sys.stderr, flush=True)
    (RESULTS / "data_at_size.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
