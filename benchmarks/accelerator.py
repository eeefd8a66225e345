"""T5 of several sizes on this machine's accelerator: the train step's MFU and memory, and decoding throughput.

python -m benchmarks.accelerator    # random weights and tokens, bfloat16, packed 512/512
python -m benchmarks.accelerator 3b --batch 16 --fsdp --remat full

Needs no TensorFlow. FLOPs are those of the matmuls of the traced program without rematerialization. The peak is that of
a bfloat16 matmul of 8,192 x 8,192 random values, measured first. Hugging Face's `generate` decodes as many tokens on
the same device, in bfloat16 and with random weights.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core import jax_setup
from explainft.data.vocabulary import EOS_ID
from explainft.generation import decoding
from explainft.model import flops
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.training import optimizers, profiling
from explainft.training.train_state import TrainState, abstract_state
from explainft.training.train_step import make_train_step

OUTPUT = Path(__file__).parent / "results" / "accelerator.json"
SIZES = {
    "tiny": T5Config(160, 64, 2, 2, 2, 32, 256),
    "small": T5Config(32128, 512, 8, 6, 6, 64, 2048),
    "base": T5Config(32128, 768, 12, 12, 12, 64, 3072),
    "large": T5Config(32128, 1024, 16, 24, 24, 64, 4096),
    "3b": T5Config(32128, 1024, 32, 24, 24, 128, 16384),
}
BASELINE = "Hugging Face"
BATCHES = {"tiny": 8, "small": 128, "base": 64, "large": 64, "3b": 32}


def seconds(run: Callable[[], object], repetitions: int) -> list[float]:
    """Returns the seconds of each repetition, after one warm-up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started)
    return times


def memory_peak() -> float | None:
    """Returns the peak GiB of the fullest device, None where the platform does not report it."""
    stats = [device.memory_stats() for device in jax.devices()]
    return max((s["peak_bytes_in_use"] / 2**30 for s in stats if s), default=None)


def batch(rows: int, length: int, vocab_size: int) -> dict[str, np.ndarray]:
    """Returns full rows: no padding, one segment."""
    tokens = np.random.default_rng(0).integers(2, vocab_size, (2, rows, length)).astype(np.int32)
    inputs, targets = tokens
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    ones = np.ones_like(inputs)
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": ones,
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
        "decoder_segment_ids": ones,
    }


def random_parameters(abstract: Any) -> Any:
    """Returns random arrays of these shapes and shardings; initializing the whole model takes minutes to compile."""
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(abstract))))

    def normal(x: jax.ShapeDtypeStruct) -> jax.Array:
        return _normal(next(keys), x.shape, x.sharding) if len(x.shape) > 1 else jnp.ones(x.shape, device=x.sharding)

    return jax.tree.map(normal, abstract)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(key: jax.Array, shape: tuple[int, ...], sharding: Any) -> jax.Array:
    return jax.lax.with_sharding_constraint(jax.random.normal(key, shape) / np.sqrt(shape[0]), sharding)


@dataclasses.dataclass(frozen=True)
class Programs:
    """A size's compiled train step and greedy decoding, and what they run on."""

    model: T5
    optimizer: Any
    abstract: TrainState
    batch: dict[str, np.ndarray]
    mesh: Any
    train_step: Any
    decode: Any
    flops: float  # of the matmuls of a train step


def compile_programs(size: str, args: argparse.Namespace) -> Programs:
    """Compiles both programs from shapes alone."""
    mesh = sharding.make_mesh(args.model_parallelism)
    config = dataclasses.replace(SIZES[size], dtype=args.dtype, dropout_rate=0.1)
    execution = ExecutionConfig(remat_policy=args.remat, scan_layers=args.scan_layers)
    model = T5(config, sharding.resolve_execution(execution, config, mesh, (args.length, args.length)))
    optimizer = optimizers.adafactor(lambda _: 1e-3)
    abstract = abstract_state(config, optimizer, mesh, args.fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    loss = Loss(z_loss=1e-4)
    with jax.set_mesh(mesh):
        of_batch = jax.sharding.NamedSharding(mesh, jax.P("data"))
        packed = batch(args.batch or BATCHES[size], args.length, config.vocab_size)
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=of_batch) for name, x in packed.items()}
        plain = make_train_step(T5(config, ExecutionConfig(scan_layers=True)), optimizer, loss, 0)
        work = flops.jaxpr_matmul_flops(plain.trace(abstract, shapes).jaxpr.jaxpr)
        step = make_train_step(model, optimizer, loss, 0, args.microbatches, shardings).lower(abstract, shapes)
        params = jax.tree.map(lambda x: x.update(dtype=jnp.dtype(config.dtype)), abstract.params)
        tokens = jax.ShapeDtypeStruct((args.decode_batch, args.decode_length), jnp.int32, sharding=of_batch)
        decode = decoding.greedy.lower(T5(config, execution), params, tokens, args.decode_length)
    with ThreadPoolExecutor() as pool:
        step, decode = pool.map(lambda program: program.compile(), (step, decode))
    return Programs(model, optimizer, abstract, packed, mesh, step, decode, work)


def set_up_explainft(size: str, args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """Compiles the train step and greedy decoding of this size; returns a function that runs and times them."""
    # A GPU's compiler autotunes matmuls on device arrays, so large arrays are allocated when nothing compiles.
    programs = compile_programs(size, args)

    def measure() -> dict[str, Any]:
        peak = profiling.peak_flops_per_second(args.dtype)
        trace = args.profile if size == args.sizes[0] else None
        params, measured = measure_train_step(programs, args, peak, trace)
        return {
            "batch": len(programs.batch["encoder_input_tokens"]),
            "attention": programs.model.execution.attention_kernel,
            "devices": jax.device_count(),
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "peak_tflops": peak / 1e12,
            "parameters": sum(x.size for x in jax.tree.leaves(params)),
            "train_step": measured,
            "decoding": measure_decoding(programs, args, params),
        }

    return measure


def measure_train_step(
    programs: Programs, args: argparse.Namespace, peak: float, trace: str | None
) -> tuple[Any, dict[str, Any]]:
    """Returns the parameters for decoding, and the measurements; `peak` is in FLOP/s."""
    params = random_parameters(programs.abstract.params)
    shardings = jax.tree.map(lambda x: x.sharding, programs.abstract)
    state = jax.device_put(TrainState(jnp.int32(0), params, programs.optimizer.init(params)), shardings)
    del params
    on_device = sharding.put_batch(programs.batch, programs.mesh)

    def train_step():
        nonlocal state
        state, sums = programs.train_step(state, on_device)
        return sums

    times = seconds(train_step, args.repetitions)
    median = float(np.median(times))
    measured: dict[str, Any] = {
        "seconds": times,
        "tflop": programs.flops / 1e12,
        "mfu": programs.flops / median / peak,
        "target_tokens_per_second": programs.batch["decoder_target_tokens"].size / median,
        "peak_memory_gib": memory_peak(),
    }
    if trace:
        with jax.profiler.trace(trace, create_perfetto_trace=True):
            jax.block_until_ready([train_step() for _ in range(profiling.TRACED)])
        measured["fractions"] = profiling.time_fractions(Path(trace))
    dtype = programs.model.config.dtype
    return jax.tree.map(
        lambda x: x.astype(dtype), state.params
    ), measured  # as decode_parameters does on an accelerator


def measure_decoding(programs: Programs, args: argparse.Namespace, params: Any) -> dict[str, Any]:
    """Returns the throughput of greedy decoding with all rows full."""
    config = programs.model.config
    inputs = batch(args.decode_batch, args.decode_length, config.vocab_size)["encoder_input_tokens"]
    inputs = sharding.put_batch({"inputs": inputs}, programs.mesh)["inputs"]
    # EOS is never the argmax where its embedding is zero and another logit is positive: every row is full.
    params["token_embedder"]["embedding"] = params["token_embedder"]["embedding"].at[EOS_ID].set(0.0)
    assert not np.any(programs.decode(params, inputs) == EOS_ID), "an output has ended"
    return rate(args, seconds(lambda: programs.decode(params, inputs), args.repetitions))


def set_up_hugging_face(size: str, args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    import torch
    import transformers

    c = SIZES[size]
    config = transformers.T5Config(
        vocab_size=c.vocab_size,
        d_model=c.emb_dim,
        d_kv=c.head_dim,
        d_ff=c.mlp_dim,
        num_layers=c.num_encoder_layers,
        num_heads=c.num_heads,
    )

    def measure() -> dict[str, Any]:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_default_device(device)
        torch.set_default_dtype(getattr(torch, args.dtype))
        model: Any = transformers.T5ForConditionalGeneration(config).eval()
        model.generation_config.decoder_start_token_id = 0
        model.generation_config.eos_token_id = None  # every row is full
        inputs = torch.from_numpy(batch(args.decode_batch, args.decode_length, c.vocab_size)["encoder_input_tokens"])
        inputs = inputs.long().to(device)
        mask = torch.ones_like(inputs)

        def generate() -> None:
            with torch.inference_mode():
                outputs = model.generate(
                    input_ids=inputs, attention_mask=mask, max_new_tokens=args.decode_length, do_sample=False
                )
            outputs.cpu()
            assert outputs.shape[1] == args.decode_length + 1, outputs.shape

        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "decoding": rate(args, seconds(generate, args.repetitions)),
        }

    return measure


def rate(args: argparse.Namespace, times: list[float]) -> dict[str, Any]:
    return {"seconds": times, "tokens_per_second": args.decode_batch * args.decode_length / float(np.median(times))}


def one_by_one(of: Callable[..., Callable[[], dict[str, Any]]], sizes: list[str], args: argparse.Namespace):
    """Yields (size, measurements); processes of their own compile concurrently and measure one at a time."""
    spawn = multiprocessing.get_context("spawn")
    ends = {size: spawn.Pipe() for size in sizes}
    processes = {size: spawn.Process(target=_wait_for_start, args=(ends[size][1], of, size, args)) for size in sizes}
    for size, process in processes.items():
        process.start()
        ends[size][1].close()
    for size in sizes:
        with contextlib.suppress(EOFError):  # its error stands on standard error
            ends[size][0].recv()
    for size, process in processes.items():
        with contextlib.suppress(EOFError, BrokenPipeError):
            ends[size][0].send(None)
            yield size, ends[size][0].recv()
        process.join()  # frees the device memory


def _wait_for_start(end: Any, of: Callable[..., Callable[[], dict[str, Any]]], *arguments: Any) -> None:
    measure = of(*arguments)
    end.send(None)
    end.recv()
    end.send(measure())


def table(report: Mapping[str, Any]) -> str:
    """Returns one row per size, dashes where it was not measured."""
    lines = [
        f"| size | batch size | train step | MFU | GiB | decoding | {BASELINE} | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for size in [size for size in SIZES if size != "tiny"]:
        found = report["sizes"].get(size)
        if found is None:
            lines.append(f"| {size} |{' - |' * 7}")
            continue
        step, decoding, baseline = found["train_step"], found["decoding"], found.get(BASELINE)
        comparison = "- | -"
        if baseline:
            baseline_rate = baseline["decoding"]["tokens_per_second"]
            comparison = f"{baseline_rate:,.0f} | {decoding['tokens_per_second'] / baseline_rate:.1f}x"
        memory = f"{step['peak_memory_gib']:.0f}" if step["peak_memory_gib"] else "-"
        lines.append(
            f"| {size} | {found['batch']} | {_median(step):,.0f} ms | **{step['mfu']:.0%}** | {memory} | "
            f"{decoding['tokens_per_second']:,.0f} tokens/s | {comparison} |"
        )
    if not report["sizes"]:
        return "\n".join(lines)
    made_on = [
        f"{found['devices']} x {found['device']}, {found['peak_tflops']:.0f} TFLOP/s in bfloat16, jax {found['jax']}"
        + (f", torch {other['torch']}, transformers {other['transformers']}" if (other := found.get(BASELINE)) else "")
        for found in report["sizes"].values()
    ]
    lines += ["", f"Medians of {report['repetitions']}. Made on " + "; ".join(dict.fromkeys(made_on)) + "."]
    return "\n".join(lines)


def _median(found: Mapping[str, Any]) -> float:
    """Returns milliseconds."""
    return 1000 * float(np.median(found["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", choices=SIZES, nargs="*", help="default: small base large 3b")
    parser.add_argument("--batch", type=int, help="rows per train step; default: by size")
    parser.add_argument("--length", type=int, default=512, help="of inputs and of targets")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--scan_layers", action="store_true")
    parser.add_argument("--fsdp", action="store_true")
    parser.add_argument("--model_parallelism", type=int, default=1)
    parser.add_argument("--microbatches", type=int, default=1)
    parser.add_argument("--decode_batch", type=int, default=256)
    parser.add_argument("--decode_length", type=int, default=128, help="generated tokens, and input tokens")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--profile", help="directory for a trace of the first size")
    parser.add_argument("--no_baseline", action="store_true", help="skip Hugging Face")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="sizes in it that are not named are kept")
    args = parser.parse_args()
    args.sizes = list(dict.fromkeys(args.sizes or ["small", "base", "large", "3b"]))
    jax_setup.configure()
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    known = json.loads(args.output.read_text())["sizes"] if args.output.is_file() else {}

    def save(size: str, found: dict[str, Any]) -> None:
        known[size] = found
        in_order = {size: known[size] for size in SIZES if size in known}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        report = {"repetitions": args.repetitions, "sizes": in_order}
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(table(report), flush=True)

    measured = []
    for size, found in one_by_one(set_up_explainft, args.sizes, args):
        save(size, {**found, "length": args.length, "decode_batch": args.decode_batch})
        measured.append(size)
    if not args.no_baseline:
        for size, found in one_by_one(set_up_hugging_face, measured, args):
            save(size, {**known[size], BASELINE: found})
    if missing := [size for size in args.sizes if size not in measured]:
        sys.exit(f"not measured, see the errors above: {', '.join(missing)}")


if __name__ == "__main__":
    main()
