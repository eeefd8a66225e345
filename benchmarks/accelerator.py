"""One size of T5 on this machine's devices: the update's time, its share of the matrix-product peak, memory, decoding.

python -m benchmarks.accelerator large --batch 32 --length 512        # random weights and tokens, bfloat16
python -m benchmarks.accelerator 3b --batch 16 --length 512 --fsdp --remat full

Needs jax, flax and optax alone. FLOPs are those of the matrix products of the traced program, without what is computed
again in the backward pass; the peak is that of a bfloat16 product of 8,192 x 8,192 matrices, measured first.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from explainft import decoding, flops, optim, sharding
from explainft.loss import Loss
from explainft.t5 import T5Config
from explainft.train import make_step
from explainft.train_state import abstract_state, init_state

SIZES = {
    "tiny": T5Config(160, 64, 2, 2, 2, 32, 256),
    "small": T5Config(32128, 512, 8, 6, 6, 64, 2048),
    "base": T5Config(32128, 768, 12, 12, 12, 64, 3072),
    "large": T5Config(32128, 1024, 16, 24, 24, 64, 4096),
    "3b": T5Config(32128, 1024, 32, 24, 24, 128, 16384),
}


def seconds(run: Callable[[], object], repetitions: int) -> float:
    """The median over the repetitions, after one that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def matrix_product_peak(n: int, dtype: str) -> float:
    """FLOP/s of one device."""
    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * n**3 / seconds(lambda: product(a), 10)


def memory_peak() -> float | None:
    """GiB on the fullest device so far; None where the platform does not tell."""
    stats = [device.memory_stats() for device in jax.devices()]
    return max((s["peak_bytes_in_use"] / 2**30 for s in stats if s), default=None)


def batch(rows: int, length: int, vocab_size: int) -> dict[str, np.ndarray]:
    """Full rows: no padding, one segment."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=512, help="of inputs and of targets")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--fsdp", action="store_true")
    parser.add_argument("--model_parallelism", type=int, default=1)
    parser.add_argument("--microbatches", type=int, default=1)
    parser.add_argument("--decode_batch", type=int, default=256)
    parser.add_argument("--decode_length", type=int, default=128, help="tokens written; as many are read")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peak_size", type=int, default=8192)
    args = parser.parse_args()
    config = dataclasses.replace(
        SIZES[args.size], dtype=args.dtype, dropout_rate=0.1, remat_policy=args.remat, scan_layers=args.size != "tiny"
    )
    found: dict[str, object] = {"command": vars(args), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    found["devices"] = jax.device_count()
    peak = matrix_product_peak(args.peak_size, args.dtype)
    found["peak_tflops"] = peak / 1e12

    mesh = sharding.make_mesh(args.model_parallelism)
    tx = optim.adafactor(lambda _: 1e-3)
    like = abstract_state(config, tx, mesh, args.fsdp)
    places = jax.tree.map(lambda x: x.sharding, like)
    with jax.set_mesh(mesh):
        rows = sharding.put_batch(batch(args.batch, args.length, config.vocab_size), mesh)
        plain = make_step(dataclasses.replace(config, remat_policy="none"), tx, Loss(z_loss=1e-4), 0)
        work = flops.products(plain.trace(like, rows).jaxpr.jaxpr)
        step = make_step(config, tx, Loss(z_loss=1e-4), 0, args.microbatches, places)
        state = jax.jit(lambda: init_state(config, tx, 0), out_shardings=places)()

        def update():
            nonlocal state
            state, sums = step(state, rows)
            return sums

        took = seconds(update, args.repetitions)
        found["update"] = {
            "seconds": took,
            "tflop": work / 1e12,
            "utilisation": work / took / (peak * jax.device_count()),
            "target_tokens_per_second": args.batch * args.length / took,
            "peak_memory_gib": memory_peak(),
        }
        inputs = sharding.put_rows_like(
            state.params, batch(args.decode_batch, args.decode_length, config.vocab_size)["encoder_input_tokens"]
        )
        params = state.params
        # EOS cannot be the likeliest where its embedding is zero and another logit is positive: every row is full.
        params["token_embedder"]["embedding"] = params["token_embedder"]["embedding"].at[1].set(0.0)
        took = seconds(lambda: decoding.greedy(config, params, inputs, args.decode_length), args.repetitions)
        found["decoding"] = {"seconds": took, "tokens_per_second": args.decode_batch * args.decode_length / took}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
