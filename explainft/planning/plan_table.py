"""The plans of many recipes on many topologies: a Markdown table that grows row by row and can be resumed."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from explainft.core.atomic_files import STANDARD_OUTPUT, atomic_write, check_writable, refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.process_pool import WorkerDied, process_pool
from explainft.planning.compiler import OutOfMemory, Program
from explainft.planning.hardware import GIB, TPU_TOPOLOGIES
from explainft.planning.plan import Plan, make_plan
from explainft.planning.plan_text import format_number
from explainft.recipes import recipe

TITLE = "# Plans of the recipes"
STYLES = ("none", "short", "medium", "long")
SIZES = ("tiny", "small", "base", "large", "3b")
FAILED = "failed: "
COLUMNS = (
    ("recipe", ":--"),
    ("topology", ":--"),
    ("fits", ":--"),
    ("training, GiB per chip", "--:"),
    ("decoding, GiB per chip", "--:"),
    ("TFLOP per chip and step", "--:"),
    ("ms per step, at least", "--:"),
    ("rows/s, at most", "--:"),
    ("hours, at least", "--:"),
    ("planned in, s", "--:"),
)


def write(
    files: Sequence[str] | None,
    topologies: Sequence[str] | None,
    bindings: Sequence[str],
    search_paths: Sequence[str],
    quick: bool,
    command: str,
    output: Path,
) -> None:
    """Plans each recipe (None: all) for each topology (None: all), one after the other, and prints each row.

    Keeps the rows of `output` that were made under the same conditions; rows that were not requested come last. Plans a
    requested row again if its plan failed.
    """
    with refuse_unwritable(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(output)
    files, topologies = files or recipes(), topologies or list(TPU_TOPOLOGIES)
    conditions = _conditions(bindings, quick)
    head = _head(command, conditions)
    before = output.read_text() if output.is_file() else ""
    if before and not before.startswith(TITLE):
        raise UserError(f"{output} is not a table of plans; name another file, or delete it")
    kept = _rows(before) if f"\n{conditions}\n\n" in before else {}
    requested = {(Path(file).stem, topology): file for file in files for topology in topologies}
    if len(requested) < len(files) * len(topologies):
        raise UserError(f"two of {', '.join(files)} would have the same rows; give recipes of different names")
    lines = dict.fromkeys(requested) | kept
    if output == STANDARD_OUTPUT:
        print(head, end="")
    for (name, topology), file in requested.items():
        if FAILED in (lines[name, topology] or FAILED):
            plan = plan_in_process(file, topology, bindings, search_paths, quick)
            lines[name, topology] = format_row(name, topology, plan)
            print(lines[name, topology], flush=True)
            if output == STANDARD_OUTPUT:
                continue
            with refuse_unwritable(output), atomic_write(output) as scratch:
                scratch.write_text(head + "\n".join(line for line in lines.values() if line) + "\n")


def recipes() -> list[str]:
    """Returns the recipes that train, the smallest models first."""
    return [f"gin/{style}_{size}.gin" for size in SIZES for style in STYLES]


def format_row(name: str, topology: str, plan: Plan | str) -> str:
    """Formats one line of the table; `plan` may be the error message of a failed one."""
    if isinstance(plan, str):
        return _line(name, topology, FAILED + plan.replace("|", "/"), *[""] * (len(COLUMNS) - 3))
    train_step, fits = plan.train_step, "yes"
    if isinstance(train_step, OutOfMemory):
        fits = "no"
        if plan.nearest:
            fits = f"no (> {train_step.needed / GIB:.1f} GiB); {plan.nearest[0].flags(plan.memory_config)}"
            train_step = plan.nearest[1]
    training = ["-"] * 2
    if isinstance(train_step, Program):
        training = [f"{train_step.memory / GIB:.2f}", format_number(train_step.flops / 1e12)]
    seconds = plan.seconds
    return _line(
        name,
        topology,
        fits,
        training[0],
        f"{plan.decoding.memory / GIB:.2f}" if isinstance(plan.decoding, Program) else "does not fit",
        training[1],
        format_number(seconds * 1e3) if seconds else "-",
        f"{plan.batch_size / seconds:,.0f}" if seconds else "-",
        format_number(plan.hours) if plan.hours is not None else "-",
        f"{plan.seconds_to_plan:.0f}",
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


_HEADER = f"{_line(*(name for name, _ in COLUMNS))}\n|{'|'.join(align for _, align in COLUMNS)}|\n"


def _conditions(bindings: Sequence[str], quick: bool) -> str:
    """Returns what a row depends on besides its recipe and topology."""
    made_with = [f"{name} {_version(name)}" for name in ("jax", "libtpu")] + [f"sources {sources_digest()}"]
    made_with += [f"`{binding}`" for binding in bindings if not binding.startswith("MODEL_DIR=")]
    effort = "With `--quick`, temporaries are those of XLA's least effort, which may be a third off." if quick else ""
    return f"Made with {', '.join(made_with)}. {effort}".rstrip()


def _head(command: str, conditions: str) -> str:
    return f"""{TITLE}

    {command}

{conditions}

FLOPs, times and hours are lower bounds that the chips' peaks allow; evaluation and saving are not counted. Where a
recipe does not fit, the macros named make it fit; the columns of training are those of the recipe with these macros, as
XLA's least effort compiles it, and are approximate. Decoding is counted with the parameters that it rounds; while a run
trains, the optimizer's state needs memory too. The same command resumes where recipes are missing, with the same
package; a changed package plans all of them again.

{_HEADER}"""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def sources_digest() -> str:
    """Returns eight digits that change with the package, whose rows are not kept then."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*")):
        if path.suffix in (".py", ".gin"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _rows(text: str) -> dict[tuple[str, str], str]:
    """Returns the rows of a table, by recipe and topology."""
    _, _, below = text.partition(_HEADER)
    rows = [(line, line.removeprefix("| ").split(" | ")) for line in below.splitlines()]
    return {(cells[0], cells[1]): line for line, cells in rows if len(cells) == len(COLUMNS)}


def plan_in_process(
    file: str, topology: str, bindings: Sequence[str], search_paths: Sequence[str], quick: bool
) -> Plan | str:
    """Plans in a process of its own, to free the compiler's memory; returns the plan, or the error message."""
    with process_pool(1) as run:
        try:
            [plan] = run(partial(_plan, topology, bindings, search_paths, quick), [file])
            return plan
        except WorkerDied:
            return "the compiler was killed; it may need more memory than this machine has"


def _plan(topology: str, bindings: Sequence[str], search_paths: Sequence[str], quick: bool, file: str) -> Plan | str:
    from explainft.training import train

    try:
        loaded = recipe.load([file], bindings, search_paths, "plan")
        return make_plan(loaded.bindings(train.train)["config"], topology, quick)
    except UserError as e:
        return e.line
    except Exception as e:  # one recipe must not end the table
        return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
