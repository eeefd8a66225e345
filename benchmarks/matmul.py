"""The machine's matmul throughput, and the lower bound in seconds that it sets for a contender's work."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.side_by_side import Contender, Result, Results
from benchmarks.tables import LOWER_BOUND

SIZE = 4096  # rows and columns of the square matrices that are measured
GFLOP = "matmul GFLOP of explainft"


def jax_matmul(args: argparse.Namespace) -> Callable[[], Result]:
    from explainft.core import jax_setup

    jax_setup.configure()
    import jax
    import jax.numpy as jnp

    matmul = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
    return lambda: _repeat_for_a_second(lambda: matmul(a, a).block_until_ready())


def torch_matmul(args: argparse.Namespace) -> Callable[[], Result]:
    import torch

    torch.set_num_threads(args.cores)
    a, out = torch.randn(SIZE, SIZE), torch.empty(SIZE, SIZE)
    return lambda: _repeat_for_a_second(lambda: torch.mm(a, a, out=out))


def _repeat_for_a_second(matmul: Callable[[], object]) -> Result:
    """Runs as many matmuls as fit one second, so that a repetition is about as long as a train step."""
    end, times = time.perf_counter() + 1.0, 0
    while time.perf_counter() < end:
        matmul()
        times += 1
    return {"work": times * 2 * SIZE**3 / 1e9}


JAX = Contender("matmul, JAX", jax_matmul, unit="GFLOP")
TORCH = Contender("matmul, torch", torch_matmul, ("torch",), unit="GFLOP")


def seconds(results: Results, flops: float) -> float:
    """Returns the seconds that so many FLOPs take at JAX's square-matmul throughput."""
    peak = statistics.median(repetition["work"] / repetition["seconds"] for repetition in results[JAX.name][1:])
    return flops / 1e9 / peak


def facts(results: Results, flops: float) -> dict[str, Any]:
    """Returns the matmul work of explainft's repetition, and its lower bound where JAX's matmul was measured."""
    lower_bound = {LOWER_BOUND: seconds(results, flops)} if JAX.name in results else {}
    return {GFLOP: flops / 1e9, **lower_bound}


def encoding_flops(config: Any, inputs: Sequence[int]) -> int:
    """Returns the matmul FLOPs of encoding inputs of these lengths, cross-attention keys and values included."""
    width = config.num_heads * config.head_dim
    layer = 4 * config.emb_dim * width + _mlp(config)
    keys_values = config.num_decoder_layers * 2 * config.emb_dim * width
    return sum(2 * S * (config.num_encoder_layers * (layer + 2 * S * width) + keys_values) for S in inputs)


def generation_flops(config: Any, inputs: Sequence[int], outputs: Sequence[int], vocab_size: int) -> int:
    """Returns the matmul FLOPs of generating outputs of these lengths, each for an input of such a length."""
    width = config.num_heads * config.head_dim
    layer = 6 * config.emb_dim * width + _mlp(config)
    total = 0
    for S, T in zip(inputs, outputs, strict=True):
        attention = 2 * width * (T * S + T * (T + 1) // 2)
        total += 2 * (T * (config.num_decoder_layers * layer + config.emb_dim * vocab_size))
        total += 2 * config.num_decoder_layers * attention
    return total


def _mlp(config: Any) -> int:
    return (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim
