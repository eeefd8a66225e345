"""The plans of many recipes on many slices, as a Markdown table that grows row by row and goes on where it stopped."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from explainft.core.atomic_files import STANDARD_OUTPUT, atomic_write, check_writable, refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.process_pool import WorkerDied, process_pool
from explainft.planning import plan
from explainft.planning.hardware import GIB, SLICES
from explainft.recipes import recipe

TITLE = "# Plans of the recipes"
STYLES = ("none", "short", "medium", "long")
SIZES = ("tiny", "small", "base", "large", "3b")
FAILED = "failed: "
COLUMNS = (
    ("recipe", ":--"),
    ("slice", ":--"),
    ("fits", ":--"),
    ("training, GiB a chip", "--:"),
    ("decoding, GiB a chip", "--:"),
    ("TFLOP a chip and update", "--:"),
    ("ms an update, at least", "--:"),
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
    """Plans each recipe (None: all) for each slice (None: all), one after the other, and prints each row.

    Rows that `output` has are kept, those of other recipes and slices after the ones asked for, if they were made under
    the same conditions; but of those asked for, one that says why a plan failed is made again.
    """
    with refuse_unwritable(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(output)
    files, topologies = files or recipes(), topologies or list(SLICES)
    conditions = _conditions(bindings, quick)
    head = _head(command, conditions)
    before = output.read_text() if output.is_file() else ""
    if before and not before.startswith(TITLE):
        raise UserError(f"{output} is no table of plans; name another file, or delete that")
    known = _rows(before) if f"\n{conditions}\n\n" in before else {}
    wanted = {(Path(file).stem, topology): file for file in files for topology in topologies}
    if len(wanted) < len(files) * len(topologies):
        raise UserError(f"two of {', '.join(files)} would have the same rows; give recipes of different names")
    lines = dict.fromkeys(wanted) | known
    if output == STANDARD_OUTPUT:
        print(head, end="")
    for (name, topology), file in wanted.items():
        if FAILED in (lines[name, topology] or FAILED):
            lines[name, topology] = row(name, topology, _apart(file, topology, bindings, search_paths, quick))
            print(lines[name, topology], flush=True)
            if output == STANDARD_OUTPUT:
                continue
            with refuse_unwritable(output), atomic_write(output) as scratch:
                scratch.write_text(head + "\n".join(line for line in lines.values() if line) + "\n")


def recipes() -> list[str]:
    """The recipes of the current folder's gin/, the smallest networks first."""
    found = [f"gin/{style}_{size}.gin" for size in SIZES for style in STYLES]
    found = [file for file in found if Path(file).is_file()]
    if not found:
        raise UserError(f"no recipes in {Path.cwd() / 'gin'}; run it in the repository's root, or give --gin_file")
    return found


def row(name: str, topology: str, found: plan.Plan | str) -> str:
    """One line of the table; `found` is the plan, or why there is none."""
    if isinstance(found, str):
        return _line(name, topology, FAILED + found.replace("|", "/"), *[""] * (len(COLUMNS) - 3))
    step = found.change[1] if found.change else found.step
    fits = "yes"
    if isinstance(found.step, plan.DoesNotFit):
        fits = (
            f"no (> {found.step.needed / GIB:.1f} GiB); {found.change[0].words(found.choice)}" if found.change else "no"
        )
    training = ["-"] * 2
    if isinstance(step, plan.Program):
        training = [f"{step.memory / GIB:.2f}", plan.short(step.flops / 1e12)]
    seconds = found.seconds
    return _line(
        name,
        topology,
        fits,
        training[0],
        f"{found.decode.memory / GIB:.2f}" if isinstance(found.decode, plan.Program) else "does not fit",
        training[1],
        plan.short(seconds * 1e3) if seconds else "-",
        f"{found.batch_size / seconds:,.0f}" if seconds else "-",
        plan.short(found.hours) if found.hours is not None else "-",
        f"{found.seconds_to_plan:.0f}",
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


_HEADER = f"{_line(*(name for name, _ in COLUMNS))}\n|{'|'.join(align for _, align in COLUMNS)}|\n"


def _conditions(bindings: Sequence[str], quick: bool) -> str:
    """What a row depends on beside its recipe and slice."""
    made_with = [f"{name} {_version(name)}" for name in ("jax", "libtpu")] + [f"sources {_digest()}"]
    made_with += [f"`{binding}`" for binding in bindings if not binding.startswith("MODEL_DIR=")]
    effort = "With `--quick`, temporaries are those of XLA's least effort, which may be a third off." if quick else ""
    return f"Made with {', '.join(made_with)}. {effort}".rstrip()


def _head(command: str, conditions: str) -> str:
    return f"""{TITLE}

    {command}

{conditions}

FLOPs, times and hours are the least that the chips' peaks allow; evaluation and saving are not counted. Where a recipe
does not fit, the macros named make it fit, and the columns of training are those of the recipe so changed, as XLA's
least effort compiles it: about right. Decoding is counted with the parameters that it rounds; while a run trains, the
optimizer's state lies beside it. Recipes that are missing have not been planned yet: the same command goes on with
them, where it is the same package; another one plans all of them anew.

{_HEADER}"""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _digest() -> str:
    """Eight digits that change with the package: rows of another program are not kept."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*")):
        if path.suffix in (".py", ".gin"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _rows(text: str) -> dict[tuple[str, str], str]:
    """The rows of a table, by recipe and slice."""
    _, _, below = text.partition(_HEADER)
    rows = [(line, line.removeprefix("| ").split(" | ")) for line in below.splitlines()]
    return {(cells[0], cells[1]): line for line, cells in rows if len(cells) == len(COLUMNS)}


def _apart(
    file: str, topology: str, bindings: Sequence[str], search_paths: Sequence[str], quick: bool
) -> plan.Plan | str:
    """The plan, made by a process of its own: what compiling leaves in memory goes with it. Else why there is none."""
    with process_pool(1) as run:
        try:
            [found] = run(partial(_plan, topology, bindings, search_paths, quick), [file])
            return found
        except WorkerDied:
            return "the compiler was killed; it may need more memory than this machine has"


def _plan(
    topology: str, bindings: Sequence[str], search_paths: Sequence[str], quick: bool, file: str
) -> plan.Plan | str:
    from explainft.training import train

    try:
        found = recipe.load([file], bindings, search_paths, "plan")
        return plan.make(found.bindings(train.train)["config"], topology, quick)
    except UserError as e:
        return e.line
    except Exception as e:  # one recipe must not end the table
        return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
