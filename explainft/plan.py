"""Whether a recipe fits and how fast it can be, before anyone rents the machine.

The real train step and the real decoding are compiled ahead of time for the named topology; no such device is needed.
"""

import dataclasses
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from explainft import decoding, sharding
from explainft.errors import UserError, nearest
from explainft.flops import matmul_flops
from explainft.hlo import Costs, costs
from explainft.loss import Loss
from explainft.t5 import T5Config
from explainft.train import DatasetConfig, make_step
from explainft.train_state import abstract_state

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one chip: bfloat16 FLOP/s, bytes of memory, and bytes/s to its memory and to its neighbours.

    Source: https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, tables "system architecture"; interconnect is
    the sum over a chip's links.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    interconnect: float


CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1228e9, 300e9),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9),
    "v6e": Chip(918e12, 32 * GIB, 1640e9, 448e9),
}
# The names by which slices are rented; v4's and v5p's count cores, two on a chip.
SLICES = {
    "v4-8": "v4:2x2x1",
    "v5e-8": "v5e:2x4",
    "v5e-16": "v5e:4x4",
    "v5p-8": "v5p:2x2x1",
    "v6e-8": "v6e:2x4",
}


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
            "interconnect": sum(self.costs.collectives.values()) / chip.interconnect,
        }


@dataclasses.dataclass(frozen=True)
class DoesNotFit:
    """A program that the compiler refused: bytes it would need on a chip, and what there is."""

    needed: float
    available: float


def devices_of(topology: str) -> tuple[list[Any], Chip | None]:
    """The devices of a topology like v5e:4x4, v5e-16 or cpu:8, and the peaks of its chips where they are known."""
    topology = SLICES.get(topology, topology)
    generation, _, shape = topology.partition(":")
    if generation == "cpu":
        if not shape.isdecimal() or int(shape) < 1:
            raise UserError(f"--topology={topology} names no number of devices; write cpu:8")
        if jax.device_count() < int(shape):
            raise UserError(
                f"--topology={topology} needs {shape} simulated devices; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={shape}"
            )
        return jax.devices()[: int(shape)], None
    if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        known = [*SLICES, *(f"{name}:2x2" for name in CHIPS), "cpu:8"]
        raise UserError(f"--topology={topology} is unknown{nearest(topology, known)}")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no metadata server is asked which TPU this machine has
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}  # both cores of a chip as one device
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except (RuntimeError, ValueError, ImportError) as e:
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"cannot plan for {topology} ({reason}); pip install 'explainft[tpu]'") from e
    return list(found.devices), CHIPS[generation]


def mesh_of(devices: list[Any], model_parallelism: int) -> Mesh:
    n = len(devices)
    if n % model_parallelism:
        raise UserError(f"MODEL_PARALLELISM={model_parallelism} does not divide the {n} chips")
    shaped = np.array(devices).reshape(n // model_parallelism, model_parallelism)
    return Mesh(shaped, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def train_program(
    mesh: Mesh,
    model: T5Config,
    tx: Any,
    loss: Loss,
    dataset: DatasetConfig,
    microbatches: int,
    fsdp: bool,
) -> Program | DoesNotFit:
    """The recipe's update, compiled for the mesh."""
    sharding.check_model(model, mesh, fsdp)
    sharding.check_batch(dataset.batch_size, mesh, microbatches)
    like = abstract_state(model, tx, mesh, fsdp)
    places = jax.tree.map(lambda x: x.sharding, like)
    batch = {
        name: _rows(
            mesh, dataset.batch_size, dataset.task_feature_lengths["inputs" if "encoder" in name else "targets"]
        )
        for name in (
            "encoder_input_tokens",
            "encoder_segment_ids",
            "decoder_input_tokens",
            "decoder_target_tokens",
            "decoder_segment_ids",
        )
    }
    with jax.set_mesh(mesh):
        step = make_step(model, tx, loss, 0, microbatches, places)
        return compiled(lambda: step.lower(like, batch), matmul_flops(step, like, batch) / mesh.size)


def decode_program(mesh: Mesh, model: T5Config, batch_size: int, inputs: int, targets: int) -> Program | DoesNotFit:
    """Greedy decoding of one batch, compiled for the mesh."""
    import optax

    like = abstract_state(model, optax.identity(), mesh).params
    rows = _rows(mesh, batch_size, inputs)
    greedy = functools.partial(decoding.greedy, model, length=targets)
    with jax.set_mesh(mesh):
        flops = matmul_flops(greedy, like, rows, while_trips=targets) / mesh.size
        return compiled(lambda: decoding.greedy.lower(model, like, rows, targets), flops)


def _rows(mesh: Mesh, rows: int, length: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, length), np.int32, sharding=NamedSharding(mesh, PartitionSpec("data")))


def compiled(lower: Callable[[], Any], flops: float) -> Program | DoesNotFit:
    """Compiles; a program that is too large is told by the compiler's own message."""
    started = time.monotonic()
    lowered = lower()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
        found = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", str(e))
        if not found:
            raise
        units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
        return DoesNotFit(float(found[1]) * units[found[2]], float(found[3]) * units[found[4]])
    memory = program.memory_analysis()
    fresh_outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + fresh_outputs + memory.generated_code_size_in_bytes,
        flops=flops,
        costs=costs(program.as_text()),
        compile_seconds=time.monotonic() - started,
    )


def changes(model: T5Config, microbatches: int, mesh: Mesh, fsdp: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """What would need less memory, the nearest first: macro settings, and the arguments that they change."""
    remat = {"none": ("minimal", "full"), "minimal": ("full",), "full": ()}[model.remat_policy]
    for policy in remat:
        yield f"REMAT_POLICY={policy}", {"remat_policy": policy}
    full = {"remat_policy": "full"}
    for factor in (2, 4, 8):
        yield f"REMAT_POLICY=full MICROBATCHES={microbatches * factor}", {**full, "microbatches": microbatches * factor}
    if not fsdp:
        yield "REMAT_POLICY=full FSDP=True", {**full, "fsdp": True}
    n = mesh.shape["model"]
    while n * 2 <= mesh.size:
        n *= 2
        yield f"REMAT_POLICY=full MODEL_PARALLELISM={n}", {**full, "model_parallelism": n}


def plan(settings: dict[str, Any], topology: str) -> str:
    """The plan of a recipe, whose arguments of train.train are given, as text."""
    devices, chip = devices_of(topology)
    model, dataset, evaluation = settings["model"], settings["dataset"], settings["evaluation"]
    tx = settings["optimizer"](settings["schedule"](train_steps=settings["train_steps"]))
    chosen = {
        "model_parallelism": settings.get("model_parallelism", 1),
        "fsdp": settings.get("fsdp", False),
        "microbatches": settings.get("microbatches", 1),
        "remat_policy": model.remat_policy,
    }

    def train(model_parallelism: int, fsdp: bool, microbatches: int, remat_policy: str) -> Program | DoesNotFit:
        mesh = mesh_of(devices, model_parallelism)
        network = dataclasses.replace(model, remat_policy=remat_policy)
        return train_program(mesh, network, tx, settings["loss"], dataset, microbatches, fsdp)

    mesh = mesh_of(devices, chosen["model_parallelism"])
    step = train(**chosen)
    lengths = dataset.task_feature_lengths
    decode = decode_program(mesh, model, evaluation.batch_size, lengths["inputs"], lengths["targets"])
    lines = [
        f"{len(devices)} chips, mesh data {mesh.shape['data']} x model {mesh.shape['model']}, "
        + ", ".join(f"{name} {value}" for name, value in chosen.items()),
        *_table(step, decode, chip),
        *_prediction(step, chip, settings),
    ]
    if isinstance(step, DoesNotFit):
        lines.append(_nearest_that_fits(train, chosen, model, mesh))
    return "\n".join(lines)


def _table(step: Program | DoesNotFit, decode: Program | DoesNotFit, chip: Chip | None) -> list[str]:
    rows: list[tuple[str, ...]] = [("a chip", "train step", "decoding a batch")]
    programs = (step, decode)
    for name, of in (
        ("arguments, GiB", lambda p: p.arguments / GIB),
        ("temporaries, GiB", lambda p: p.temporaries / GIB),
        ("total, GiB", lambda p: p.memory / GIB),
        ("matrix products, TFLOP", lambda p: p.flops / 1e12),
        ("bytes accessed, GB", lambda p: p.costs.bytes_accessed / 1e9),
    ):
        rows.append((name, *(f"{of(p):.3f}" if isinstance(p, Program) else "-" for p in programs)))
    kinds = sorted({kind for p in programs if isinstance(p, Program) for kind in p.costs.collectives})
    for kind in kinds:
        cells = (
            f"{p.costs.collectives.get(kind, 0) / 1e9:.3f} ({p.costs.counts.get(kind, 0)} x)"
            if isinstance(p, Program)
            else "-"
            for p in programs
        )
        rows.append((f"{kind}, GB", *cells))
    if chip:
        for limit in ("compute", "memory", "interconnect"):
            cells = (f"{p.seconds(chip)[limit] * 1e3:.2f}" if isinstance(p, Program) else "-" for p in programs)
            rows.append((f"roofline, {limit}, ms", *cells))
    rows.append(
        ("compiled here in, s", *(f"{p.compile_seconds:.0f}" if isinstance(p, Program) else "-" for p in programs))
    )
    width = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]:>{width[2]}}" for row in rows]


def _prediction(step: Program | DoesNotFit, chip: Chip | None, settings: dict[str, Any]) -> list[str]:
    if isinstance(step, DoesNotFit):
        return [f"does not fit: needs {step.needed / GIB:.2f} GiB of {step.available / GIB:.2f} GiB"]
    if chip is None:
        return []
    seconds = max(step.seconds(chip).values())
    rows = settings["dataset"].batch_size / seconds
    first = settings.get("initial_step") or 0
    updates = settings.get("train_steps_relative") or settings["train_steps"] - first
    return [
        f"fits: {step.memory / GIB:.2f} GiB of {chip.memory / GIB:.0f} GiB",
        f"at least {seconds * 1e3:.1f} ms an update, at most {rows:,.0f} rows/s; "
        f"{updates:,} updates in {updates * seconds / 3600:.2f} hours",
    ]


def _nearest_that_fits(
    train: Callable[..., Program | DoesNotFit], chosen: dict[str, Any], model: T5Config, mesh: Mesh
) -> str:
    for words, change in changes(model, chosen["microbatches"], mesh, chosen["fsdp"]):
        try:
            found = train(**{**chosen, **change})
        except UserError:  # that does not divide
            continue
        if isinstance(found, Program):
            return f"would fit: {words}, with {found.memory / GIB:.2f} GiB"
    return "nothing tried makes it fit; take more or larger chips"
