"""What no float32 work beats on a machine: its own matrix products, at the speed of large square ones."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.side_by_side import Result, Results, System

PRODUCT = 4096  # rows and columns of the matrices that measure the machine
GFLOP = "GFLOP of our products"  # the fact of a row that document.py sets its goals beside
LEAST = "least seconds of our turn"


def jax_products(args: argparse.Namespace) -> Callable[[], Result]:
    from explainft.core import jax_setup

    jax_setup.configure()
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT))
    return lambda: _work_of(lambda: product(a, a).block_until_ready())


def torch_products(args: argparse.Namespace) -> Callable[[], Result]:
    import torch

    torch.set_num_threads(args.cores)
    a, out = torch.randn(PRODUCT, PRODUCT), torch.empty(PRODUCT, PRODUCT)
    return lambda: _work_of(lambda: torch.mm(a, a, out=out))


def _work_of(product: Callable[[], object]) -> Result:
    """As many products as fit a second, so that a turn is about as long as a step."""
    end, times = time.perf_counter() + 1.0, 0
    while time.perf_counter() < end:
        product()
        times += 1
    return {"work": times * 2 * PRODUCT**3 / 1e9}


JAX = System("matrix products, JAX", jax_products, unit="GFLOP")
TORCH = System("matrix products, torch", torch_products, ("torch",), unit="GFLOP")


def seconds(results: Results, flops: float) -> float:
    """What so many FLOPs take at JAX's speed of square products."""
    peak = statistics.median(turn["work"] / turn["seconds"] for turn in results[JAX.name][1:])
    return flops / 1e9 / peak


def facts(results: Results, flops: float) -> dict[str, Any]:
    """Of a turn of ours with so many FLOPs of products; nothing where JAX's products were not measured."""
    least = {LEAST: seconds(results, flops)} if JAX.name in results else {}
    return {GFLOP: flops / 1e9, **least}


def encoding_flops(config: Any, inputs: Sequence[int]) -> int:
    """Of the products that read inputs of these lengths: the encoder's, and the decoder's of their keys and values."""
    width = config.num_heads * config.head_dim
    layer = 4 * config.emb_dim * width + _mlp(config)
    keys_values = config.num_decoder_layers * 2 * config.emb_dim * width
    return sum(2 * S * (config.num_encoder_layers * (layer + 2 * S * width) + keys_values) for S in inputs)


def writing_flops(config: Any, inputs: Sequence[int], texts: Sequence[int], pieces: int) -> int:
    """Of the products that write texts of these lengths, each for an input of such a length, out of so many pieces."""
    width = config.num_heads * config.head_dim
    layer = 6 * config.emb_dim * width + _mlp(config)
    total = 0
    for S, T in zip(inputs, texts, strict=True):
        attention = 2 * width * (T * S + T * (T + 1) // 2)
        total += 2 * (T * (config.num_decoder_layers * layer + config.emb_dim * pieces))
        total += 2 * config.num_decoder_layers * attention
    return total


def _mlp(config: Any) -> int:
    return (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim
