"""Coverage-guided fuzzing of the readers of outside text.

    python -m tests.fuzz --runs 1000000                # all of them, one after the other
    python -m tests.fuzz expressions --runs 100000

It needs the extra `fuzz`. Each reader runs in a process of its own, of at most 2 GiB and 20 seconds an input. --corpus
keeps the inputs that reached new code, and in its directory `broken` one that breaks a reader.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

MEMORY_MB, SECONDS_AN_INPUT, MAX_BYTES = 2048, 20, 4096
ROW = "| {:12} | {:>10,} | {:>8,.0f} | {:>12} | {:>14} | {} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="READER", help="default: all")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz_corpus"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        [name] = args.targets
        fuzz(name, args.runs, args.seed, args.corpus / name)
    from tests.fuzz.targets import TARGETS

    print("| reader | inputs | seconds | branches | peak memory | outcome |\n| :-- | --: | --: | --: | --: | :-- |")
    failed = False
    for name in args.targets or TARGETS:
        corpus = args.corpus / name
        (corpus / "broken").mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(TARGETS[name].seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz", name, "--here"]
        command += [f"--runs={args.runs}", f"--seed={args.seed}", f"--corpus={args.corpus}"]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        log = done.stderr + done.stdout
        (corpus / "broken" / "log").write_text(log)
        executed = [int(n) for n in re.findall(r"^#(\d+)\t", log, re.M)] or [0]
        branches = re.findall(r"cov: (\d+)", log) or ["-"]
        memory = re.findall(r"rss: (\d+Mb)", log) or ["-"]
        outcome = "no failure" if done.returncode == 0 else _failure(log)
        failed |= done.returncode != 0
        row = (name, executed[-1], time.monotonic() - began, branches[-1], memory[-1], outcome)
        print(ROW.format(*row), flush=True)
    return int(failed)


def fuzz(name: str, runs: int, seed: int, corpus: Path) -> None:
    """Runs one reader in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["explainft"]):
        from tests.fuzz.targets import TARGETS
    flags = [
        f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={SECONDS_AN_INPUT}", f"-artifact_prefix={corpus}/broken/", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags], TARGETS[name].run)
    atheris.Fuzz()


def _failure(log: str) -> str:
    lines = [line for line in log.splitlines() if re.match(r"\w[\w.]*(Error|Exception|Interrupt)\b|.*ERROR:", line)]
    return f"`{lines[0][:100]}`" if lines else "ended; see its log"


if __name__ == "__main__":
    sys.exit(main())
