"""Whether a recipe fits and how fast it can be, before anyone rents the machine.

The real train step, and decoding.greedy with a cache of the full length, are compiled ahead of time for the named
topology; no such device is needed. On several devices decoding is that; on one, `generate` reads and computes less,
with a cache that grows and without the rows that have ended, and what is said here is an upper bound.
Of both the whole output layer is counted, with OUTPUT_VOCABULARY="task" too: which pieces those are only the data tell.
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.generation import decoding
from explainft.model.flops import jaxpr_matmul_flops
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.planning.hardware import GIB, Chip, devices_of
from explainft.planning.hlo import Costs, costs
from explainft.planning.memory_search import Choice, Estimate, choices
from explainft.training.config import DatasetConfig, InitialCheckpoint, TrainConfig
from explainft.training.initialize import last_step
from explainft.training.train_state import abstract_state
from explainft.training.train_step import make_train_step

TRIES = 3  # changes that are compiled in search of one that fits
# Of XLA's optimisations those that cost little: a third of the time, for a change that is only looked for.
QUICK = {"exec_time_optimization_effort": -1.0}
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program takes on one chip. `arguments` and `temporaries` in bytes; `compile_seconds` here.

    `flops`: those of the matrix products, what is computed again included, shared evenly by the chips.
    """

    arguments: int
    temporaries: int
    flops: float
    costs: Costs
    compile_seconds: float

    @property
    def memory(self) -> int:
        return self.arguments + self.temporaries

    def seconds(self, chip: Chip) -> dict[str, float]:
        """The roofline: the least time that each of the chip's limits allows."""
        return {
            "compute": self.flops / chip.flops,
            "memory": self.costs.bytes_accessed / chip.memory_bandwidth,
            "interconnect": self.costs.bytes_sent() / chip.interconnect,
        }


@dataclasses.dataclass(frozen=True)
class DoesNotFit:
    """A program that is too large: bytes that it needs on a chip at least, and what there is."""

    needed: float
    available: float

    def __str__(self) -> str:
        return f"it needs more than {self.needed / GIB:.2f} GiB of {self.available / GIB:.2f} GiB"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was found of a recipe on a machine. `change`: of a step that does not fit, the nearest that would.

    `updates` and `examples_a_row` are None where they are not known here.
    """

    topology: str
    chips: int
    chip: Chip | None
    choice: Choice
    batch_size: int
    step: Program | DoesNotFit
    decode: Program | DoesNotFit
    change: tuple[Choice, Program] | None
    updates: int | None
    examples_a_row: float | None
    seconds_to_plan: float

    @property
    def seconds(self) -> float | None:
        """The roofline's time of an update, of the change where the recipe itself does not fit."""
        program = self.change[1] if self.change else self.step
        return max(program.seconds(self.chip).values()) if self.chip and isinstance(program, Program) else None

    @property
    def hours(self) -> float | None:
        return self.updates * self.seconds / 3600 if self.updates and self.seconds else None


def make(config: TrainConfig, topology: str, quick: bool = False) -> Plan:
    """The plan of a recipe, whose settings are given.

    `quick`: compiled with XLA's least effort, so that memory and bytes are not those of the program that would run.
    """
    started = time.monotonic()
    options = QUICK if quick else None
    devices, chip = devices_of(topology)
    n_updates = updates(
        config.initial_checkpoint, config.optimization.train_steps, config.optimization.train_steps_relative
    )
    model, dataset, evaluation, optimization = config.model, config.dataset, config.evaluation, config.optimization
    for_decoding = T5(model.config, model.execution.for_inference())
    tx = optimization.optimizer(optimization.schedule(train_steps=optimization.train_steps))
    choice = Choice(
        config.mesh.model_parallelism,
        config.mesh.fsdp,
        optimization.microbatches,
        model.execution.remat_policy,
    )
    lengths = dataset.task_feature_lengths
    rows = evaluation.batch_size, lengths["inputs"], lengths["targets"]
    with ThreadPoolExecutor(1) as thread:  # each compilation keeps one core busy
        decode = thread.submit(decode_program, devices, choice, for_decoding, *rows, options)
        step, change = training(config, tx, choice, devices, chip.memory if chip else math.inf, options)
        decode = decode.result()
    if chip:
        decode = within(chip.memory, decode)
    return Plan(
        topology, len(devices), chip, choice, dataset.batch_size, step, decode, change,
        n_updates, examples_a_row(dataset), time.monotonic() - started,
    )  # fmt: skip


def training(
    config: TrainConfig,
    tx: Any,
    choice: Choice,
    devices: list[Any],
    available: float,
    options: dict[str, Any] | None,
) -> tuple[Program | DoesNotFit, tuple[Choice, Program] | None]:
    """The recipe's update; where it does not fit, the nearest change that does."""
    dataset = config.dataset
    fixed = config.model, tx, config.optimization.loss, dataset
    shape = dataset.batch_size, dataset.task_feature_lengths
    estimate = Estimate(*fixed[:3], batch_shapes(sharding.make_mesh(1, devices), *shape), devices)
    least = estimate.state(choice)
    # No need to compile what cannot fit.
    step = (
        DoesNotFit(least, available)
        if least > available
        else within(available, train_program(devices, choice, *fixed, options))
    )
    if isinstance(step, Program):
        return step, None
    return step, nearest_that_fits(
        choice,
        len(devices),
        step.available,
        estimate,
        lambda other: within(available, train_program(devices, other, *fixed, QUICK)),
    )


def within(available: float, program: Program | DoesNotFit) -> Program | DoesNotFit:
    """The compiler for v4 holds the temporaries alone against the memory, without the arguments."""
    if isinstance(program, Program) and program.memory > available:
        return DoesNotFit(program.memory, available)
    return program


def train_program(
    devices: list[Any],
    choice: Choice,
    model: T5,
    tx: Any,
    loss: Loss,
    dataset: DatasetConfig,
    options: dict[str, Any] | None = None,
) -> Program | DoesNotFit:
    """The recipe's update, compiled for the devices."""
    mesh = sharding.make_mesh(choice.model_parallelism, devices)
    config, lengths = model.config, dataset.task_feature_lengths.values()
    execution = dataclasses.replace(model.execution, remat_policy=choice.remat_policy)
    model = T5(config, sharding.resolve_execution(execution, config, mesh, lengths))
    sharding.check_model(config, mesh, choice.fsdp)
    sharding.check_batch(dataset.batch_size, mesh, choice.microbatches)
    like = abstract_state(config, tx, mesh, choice.fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    with jax.set_mesh(mesh):
        step = make_train_step(model, tx, loss, 0, choice.microbatches, shardings)
        return compiled(
            step.trace(like, batch_shapes(mesh, dataset.batch_size, dataset.task_feature_lengths)),
            mesh,
            options=options,
        )


def decode_program(
    devices: list[Any],
    choice: Choice,
    model: T5,
    batch_size: int,
    inputs: int,
    targets: int,
    options: dict[str, Any] | None = None,
) -> Program | DoesNotFit:
    """decoding.greedy of one batch to its full length, compiled for the devices: `generate` does no more.

    On accelerators the parameters are a copy in the activations' type; those that it is made of stay,
    and are counted with it.
    """
    mesh = sharding.make_mesh(choice.model_parallelism, devices)
    like = sharding.abstract_parameters(model.config, mesh, choice.fsdp)
    stay = 0
    if model.config.dtype != "float32" and not sharding.are_one_cpu(devices):
        stay = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(like))
        like = jax.tree.map(lambda x: x.update(dtype=jax.numpy.dtype(model.config.dtype)), like)
    with jax.set_mesh(mesh):
        traced = decoding.greedy.trace(model, like, _rows(mesh, batch_size, inputs), targets)
        program = compiled(traced, mesh, targets, options)
    if isinstance(program, DoesNotFit):
        return program
    return dataclasses.replace(program, arguments=program.arguments + stay)


def batch_shapes(mesh: Mesh, rows: int, lengths: Mapping[str, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch of an update, its rows, of such `lengths` of inputs and targets, split over `data`."""
    of_stack = {"encoder": lengths["inputs"], "decoder": lengths["targets"]}
    names = ("encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens", "decoder_target_tokens",
             "decoder_segment_ids")  # fmt: skip
    return {name: _rows(mesh, rows, of_stack[name.partition("_")[0]]) for name in names}


def _rows(mesh: Mesh, rows: int, length: int) -> jax.ShapeDtypeStruct:
    divides = rows % mesh.shape["data"] == 0  # as sharding.put_rows_like shards them
    place = NamedSharding(mesh, PartitionSpec("data" if divides else None))
    return jax.ShapeDtypeStruct((rows, length), np.int32, sharding=place)


def compiled(
    traced: Any, mesh: Mesh, while_trips: int = 1, options: dict[str, Any] | None = None
) -> Program | DoesNotFit:
    """Compiles; of a program that is too large, the compiler tells the size."""
    started = time.monotonic()
    lowered = traced.lower()
    try:
        program = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as e:
        refused = refusal(str(e))
        if refused is None:
            raise
        return DoesNotFit(*refused)
    memory = program.memory_analysis()
    fresh_outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + fresh_outputs + memory.generated_code_size_in_bytes,
        flops=jaxpr_matmul_flops(traced.jaxpr.jaxpr, while_trips) / mesh.size,
        costs=costs(program.as_text(), while_trips),
        compile_seconds=time.monotonic() - started,
    )


def refusal(message: str) -> tuple[float, float] | None:
    """The bytes that a program needs and those that there are, from the compiler's error; None: another error."""
    for words in (
        r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm",
        r"temporaries \(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)",  # arguments not counted
    ):
        if found := re.search(words, message):
            return float(found[1]) * UNITS[found[2]], float(found[3]) * UNITS[found[4]]
    return None


def nearest_that_fits(
    now: Choice,
    devices: int,
    available: float,
    estimate: Callable[[Choice, float], float],
    compile: Callable[[Choice], Program | DoesNotFit],
) -> tuple[Choice, Program] | None:
    """The first of the choices that fits; those that cannot by the estimate are not compiled, nor more than TRIES."""
    tries = 0
    for choice in choices(now, devices):
        try:
            if estimate(choice, available) > available:
                continue
            found = compile(choice)
        except UserError:  # that does not divide
            continue
        if isinstance(found, Program):
            return choice, found
        tries += 1
        if tries == TRIES:
            break
    return None


def updates(initial: InitialCheckpoint, train_steps: int, relative: int | None = None) -> int | None:
    """How many updates a new run of the recipe makes; None where only its initial checkpoint can tell.

    Raises UserError where the checkpoint has them all behind it.
    """
    path = initial.path
    first = initial.step if path else 0
    if path and first is None:
        named = re.search(r"/checkpoint_(\d+)/?$", path)  # T5X writes the step into the name
        first = int(named[1]) if named else None
    if first is None and relative is None:
        return None
    return last_step(Progress(first_step=first or 0), train_steps, relative) - (first or 0)


def examples_a_row(dataset: DatasetConfig) -> float | None:
    """How many examples packing puts in a row; None where the task's tokens are not cached on this machine."""
    try:
        cache = token_cache.newest(dataset.mixture_or_task_name, "train")
        if cache is None:
            return None
        batches: Batches = dataset.batches(cache)
    except (UserError, OSError, ValueError):  # damaged, or of other lengths than the recipe's
        return None
    return len(batches.cache) / len(batches.packing)


def text(plan: Plan) -> str:
    """The plan for a reader."""
    of_what = f"{plan.chips} chips" if plan.chip is None else f"{plan.chips} chips of {plan.chip}"
    return "\n".join([f"{plan.topology}: {of_what}", plan.choice.words(), *_table(plan), *_verdict(plan)])


def _table(plan: Plan) -> list[str]:
    programs = (plan.step, plan.decode)
    kinds = sorted({kind for p in programs if isinstance(p, Program) for kind in p.costs.collectives})
    cells: list[tuple[str, Callable[[Program], str]]] = [
        ("arguments, GiB", lambda p: f"{p.arguments / GIB:.3f}"),
        ("temporaries, GiB", lambda p: f"{p.temporaries / GIB:.3f}"),
        ("total, GiB", lambda p: f"{p.memory / GIB:.3f}"),
        ("matrix products, TFLOP", lambda p: short(p.flops / 1e12)),
        ("bytes accessed, GB", lambda p: short(p.costs.bytes_accessed / 1e9)),
        *((f"{kind}, GB", lambda p, kind=kind: _collective(p.costs, kind)) for kind in kinds),
    ]
    if chip := plan.chip:
        cells += [
            (f"roofline, {limit}, ms", lambda p, limit=limit: short(p.seconds(chip)[limit] * 1e3))
            for limit in ("compute", "memory", "interconnect")
        ]
    cells.append(("compiled here in, s", lambda p: f"{p.compile_seconds:.0f}"))
    rows: list[tuple[str, ...]] = [("a chip", "train step", "decoding a batch")]
    for name, cell in cells:
        rows.append((name, *(cell(p) if isinstance(p, Program) else "-" for p in programs)))
    width = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]:>{width[2]}}" for row in rows]


def short(number: float) -> str:
    return f"{number:,.2f}" if number >= 1 else f"{number:.3g}"


def _collective(of: Costs, kind: str) -> str:
    return f"{short(of.collectives.get(kind, 0) / 1e9)} ({of.counts.get(kind, 0):,} x)"


def _verdict(plan: Plan) -> list[str]:
    lines = []
    for name, program in (("the train step", plan.step), ("decoding", plan.decode)):
        if isinstance(program, DoesNotFit):
            lines.append(f"{name} does not fit: {program}")
        elif plan.chip:
            lines.append(f"{name} fits: {program.memory / GIB:.2f} GiB of {plan.chip.memory / GIB:.0f} GiB")
    if isinstance(plan.step, DoesNotFit):
        if plan.change is None:
            return [*lines, "nothing tried makes it fit; take more or larger chips"]
        words, memory = plan.change[0].words(plan.choice), plan.change[1].memory
        lines.append(f"would fit: {words}, with about {memory / GIB:.1f} GiB; plan with --gin.NAME=VALUE of these")
    if plan.seconds is None:
        return lines
    rows = plan.batch_size / plan.seconds
    speed = f"at least {short(plan.seconds * 1e3)} ms an update, at most {rows:,.0f} rows/s"
    if plan.change:
        speed = f"so changed, about {speed}"
    if plan.examples_a_row is None:
        speed += "; how many examples a row holds is counted in the task's data, which is not on this machine"
    else:
        speed += f", {rows * plan.examples_a_row:,.0f} examples/s at {plan.examples_a_row:.2f} examples a row"
    lines.append(speed)
    if plan.hours is not None:
        lines.append(
            f"{plan.updates:,} updates in at least {short(plan.hours)} hours, evaluation and saving not counted"
        )
    else:
        lines.append("how many updates: the initial checkpoint's step tells; give --gin.INITIAL_STEP=1000000")
    return lines
