"""Computes the missing cells of a matrix with several processes, and writes its tables, pictures and page."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
import jax
from tqdm import tqdm

from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError, nearest
from explainft.reporting.vega import png, svg
from explainft.sweeps.cost_model import max_parallel_jobs
from explainft.sweeps.runner import Runner
from explainft.transfer import page, tables
from explainft.transfer.cells import DIRECTORY, CellPlan, CellSettings, delete_incomplete, plan_cell
from explainft.transfer.charts import CHARTS
from explainft.transfer.columns import Column, Examples, make_columns
from explainft.transfer.distances import Distance, read_or_compute
from explainft.transfer.matrix import Matrix, read_row
from explainft.transfer.settings import Transfer
from explainft.transfer.sources import Source, open_sources

DATA, PAGE, TABLE, LOGS, LOCK = "transfer.json", "transfer.html", "transfer.md", "logs", "lock"
POLL = 0.5  # seconds between two looks at the cells


def run(
    transfer: Transfer,
    settings: CellSettings,
    output: Path,
    jobs: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Computes the cells that are missing, `jobs` processes at a time, and writes the matrix into `output`.

    SIGTERM and Ctrl-C stop the processes; the same command computes what is missing then. Raises UserError, before
    anything is decoded, for tasks and checkpoints that do not go together.
    """
    jax.config.update("jax_platforms", "cpu")  # an accelerator is that of the processes that decode
    check_output(output, [setting.label for setting in transfer.run_settings()], overwrite)
    sources = open_sources(transfer.run_settings())
    columns = make_columns(transfer, settings.tfds_data_dir)
    examples = Examples(settings.num_examples, settings.tfds_data_dir)
    bar = tqdm(sources, desc="reading the tasks", unit=" runs", disable=None, leave=False)
    plans = {
        source.label: [plan_cell(source, column, examples, settings, output) for column in columns] for source in bar
    }
    if transfer.metric is not None:
        _check_metric(transfer.metric, plans[sources[0].label])
    pending = {label: missing for label, of in plans.items() if (missing := _missing(of))}
    jobs = jobs or max_parallel_jobs([])
    n = sum(map(len, pending.values()))
    print(f"{n} of {len(sources) * len(columns)} cells to do")
    if dry_run:
        for label, missing in pending.items():
            print(*(f"{label}: {plan.column.title}" for plan in missing), sep="\n")
        return
    with _locked(output):
        delete_incomplete(output)
        if pending:
            _compute(sources, pending, settings, output, jobs)
        data_dir = settings.tfds_data_dir
        rows = [read_row(source, plans[source.label], transfer.metric, data_dir) for source in sources]
        distances = _distances(sources, output)
        _write(Matrix(columns, [row._replace(distances=distances.get(row.source.label)) for row in rows]), output)


def check_output(output: Path, runs: Sequence[str], overwrite: bool) -> None:
    """Raises UserError where the directory holds other files, or the matrix of other runs.

    A matrix may gain runs; with `overwrite` it may lose some.
    """
    with refuse_unwritable(output):
        held = {path.name for path in output.iterdir()} if output.exists() else set()
    if held and DIRECTORY not in held:
        raise UserError(f"--output={str(output)!r} holds other files, such as {min(held)}; choose a new directory")
    file = output / DATA
    if overwrite or not file.is_file():
        return
    try:
        earlier = [run["label"] for run in json.loads(file.read_text(encoding="utf-8"))["runs"] if not run["added"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{file} is corrupt; give --overwrite to write it again from the cells") from e
    others = [label for label in earlier if label not in runs]
    if others:
        raise UserError(
            f"--output={str(output)!r} holds the matrix of other runs: {', '.join(others)}; choose another directory, "
            "or give --overwrite"
        )


def _missing(plans: Sequence[CellPlan]) -> list[CellPlan]:
    return [plan for plan in plans if not plan.file.exists()]


def _check_metric(metric: str, plans: Sequence[CellPlan]) -> None:
    """Refuses a metric that no evaluation has."""
    known = {name for plan in plans for name in plan.evaluator.metric_names() if "/" not in name}
    if metric not in known:
        raise UserError(f"metric={metric!r} must be a metric of an evaluation{nearest(metric, known)}")


# ---- cells


def _compute(
    sources: Sequence[Source],
    pending: dict[str, list[CellPlan]],
    settings: CellSettings,
    output: Path,
    jobs: int,
) -> None:
    """Starts processes, each for cells of one checkpoint. Raises UserError where one failed, after the others end."""
    runner = Runner(jobs, [f"--tfds_data_dir={settings.tfds_data_dir}"] if settings.tfds_data_dir else [])
    parts = max(1, jobs // len(pending))  # of a checkpoint's cells, so that no core waits
    functions: dict[str, Callable[[], str]] = {}
    for number, source in enumerate(sources):
        missing = pending.get(source.label, [])
        for part in range(min(parts, len(missing))):
            name = f"{source.label}, part {part + 1}" if parts > 1 else source.label
            log = output / LOGS / f"{number}-{part}.log"
            functions[name] = _process(source, missing[part::parts], settings, output, runner, log)
    files = list({plan.file for missing in pending.values() for plan in missing})
    with _cells_bar(files) as bar:
        failed = runner.run(functions, bar)
    if failed:
        raise UserError(f"{len(failed)} of {len(functions)} processes failed: {'; '.join(failed)}; see {output / LOGS}")


def _process(
    source: Source, plans: Sequence[CellPlan], settings: CellSettings, output: Path, runner: Runner, log: Path
) -> Callable[[], str]:
    """Returns the function that runs `explainft transfer` for cells of one checkpoint, and returns a line about it."""
    command = [
        "transfer",
        source.path,
        f"--only_cells={os.getpid()}",
        f"--evaluations={','.join(f'{plan.column.module}:{plan.column.task}' for plan in plans)}",
        f"--output={output}",
        f"--batch_size={settings.batch_size}",
        f"--decode_dtype={settings.decode_dtype}",
        *([] if source.step is None else [f"--step={source.step}"]),
        *([] if settings.num_examples is None else [f"--num_examples={settings.num_examples}"]),
    ]

    def compute() -> str:
        runner.run_command(command, log)
        return f"{len(plans)} cells"

    return compute


@contextlib.contextmanager
def _cells_bar(files: Sequence[Path]) -> Iterator[tqdm]:
    """Yields a bar that counts complete cells while it is open, and estimates the time left."""
    stop = threading.Event()

    def update(bar: tqdm) -> None:
        bar.update(sum(file.exists() for file in files) - bar.n)

    def watch(bar: tqdm) -> None:
        while not stop.wait(POLL):
            update(bar)

    with tqdm(total=len(files), unit=" cells", disable=None) as bar:
        thread = threading.Thread(target=watch, args=(bar,), daemon=True)
        thread.start()
        try:
            yield bar
        finally:
            stop.set()
            thread.join()
            update(bar)


def _distances(sources: Sequence[Source], output: Path) -> dict[str, dict[str, Distance] | None]:
    """Returns the distance of each checkpoint from its baseline, by label."""
    by_label = {source.label: source for source in sources}
    found = {}
    for source in sources:
        if source.baseline is not None:
            start = by_label[source.baseline]
            file = output / DIRECTORY / f"distance-{source.digest}-{start.digest}.json"
            found[source.label] = read_or_compute(file, source.weights, start.weights)
            if found[source.label] is None:
                print(f"note: {source.label} and {start.label} differ in shape: no distance", file=sys.stderr)
    return found


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keeps a second command out of the directory. The kernel releases the lock when the process ends."""
    with refuse_unwritable(output):
        for name in (DIRECTORY, LOGS):
            (output / name).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(output / LOCK, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise UserError(f"another command writes --output={str(output)!r}; wait for it, or choose another one") from e
    except OSError as e:  # not every file system has locks
        print(f"note: {output} cannot be locked ({e.strerror}); write it once at a time", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


# ---- results


def _write(matrix: Matrix, output: Path) -> None:
    text = tables.markdown(matrix)
    contents: dict[str, bytes] = {
        DATA: (json.dumps(tables.as_data(matrix), indent=1, sort_keys=True) + "\n").encode(),
        TABLE: text.encode(),
        PAGE: page.document(matrix).encode(),
    }
    for name, draw in CHARTS.items():
        chart = draw(matrix)
        contents |= {f"{name}.png": png(chart), f"{name}.svg": svg(chart).encode()}
    for name, content in contents.items():
        with refuse_unwritable(output / name), atomic_write(output / name) as scratch:
            scratch.write_bytes(content)
    print(text.split("\n\n", 1)[0])
    print(*(output / name for name in contents), sep="\n", file=sys.stderr)


def columns_of(evaluations: Sequence[str], module: str) -> list[Column]:
    """Returns the columns of tasks that are named in full, MODULE:TASK, as one process of this command gets them."""
    found = []
    for name in evaluations:
        own, _, task = name.rpartition(":")
        found.append(Column(task, "", None, task, own or module))
    return found
