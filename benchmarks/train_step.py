"""A training step on the same weights and tokens: explainft, Hugging Face's T5 with AdamW, T5X under its own trainer.

    python -m benchmarks.train_step --dropout 0.1

Beside them the machine's float32 matrix products are measured, which no step can beat.
"""

import argparse
import functools
import itertools
import statistics
from pathlib import Path
from typing import Any

from benchmarks import products, side_by_side
from benchmarks.side_by_side import Result, Results, Row, System

LEARNING_RATE = 1e-4
LOSS_TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 0.05  # of products of bfloat16 numbers, whose loss is told beside the others
ASYNCHRONOUS, SYNCHRONOUS = ({"JAX_CPU_ENABLE_ASYNC_DISPATCH": value} for value in ("true", "false"))
T5X_NEEDS = ("t5x", "seqio")


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights

    weights.write_random(Path(args.folder, "hf"), args.size)


def tokens(args: argparse.Namespace, vocab_size: int) -> dict[str, Any]:
    """One batch without padding, as every system reads it: inputs, the decoder's inputs, its targets."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = rng.integers(2, vocab_size, (args.batch, args.inputs), np.int32)
    targets = rng.integers(2, vocab_size, (args.batch, args.targets), np.int32)
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return {"encoder_input_tokens": inputs, "decoder_input_tokens": shifted, "decoder_target_tokens": targets}


def ours(args: argparse.Namespace, matmul_precision: str = "float32"):
    from explainft.core import jax_setup

    jax_setup.configure()
    import dataclasses

    import jax
    import jax.numpy as jnp

    from benchmarks import weights
    from explainft.model.flops import matmul_flops
    from explainft.model.loss import Loss
    from explainft.model.t5 import T5, forward
    from explainft.parallel.sharding import make_mesh, suited
    from explainft.training import optimizers
    from explainft.training.train_state import TrainState
    from explainft.training.train_step import make_train_step

    config, params = weights.read(Path(args.folder, "hf"))
    config = dataclasses.replace(config, dropout_rate=args.dropout, matmul_precision=matmul_precision)
    loss = Loss()
    batch = tokens(args, config.vocab_size)
    for stack, name in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens")):
        batch[f"{stack}_segment_ids"] = (batch[name] > 0).astype("int32")

    @jax.jit
    def loss_without_dropout(params):
        sums = loss.sums(forward(T5(config), params, batch), batch["decoder_target_tokens"])
        return sums["loss_sum"] / sums["weight_sum"]

    before = float(loss_without_dropout(params))
    tx = {"adafactor": optimizers.adafactor, "adamw": optimizers.adamw}[args.optimizer](lambda _: LEARNING_RATE)
    mesh = make_mesh(1)
    update = make_train_step(suited(config, mesh, (args.inputs, args.targets)), tx, loss, 0, args.microbatches)
    state = TrainState(jnp.int32(0), params, tx.init(params))
    flops = matmul_flops(
        make_train_step(config, tx, loss, seed=0), state, batch
    )  # once each, whatever is computed again
    del params  # the updates take their memory over

    def repeat() -> Result:
        nonlocal state
        for _ in range(args.steps):
            state, sums = update(state, batch)
        jax.block_until_ready(state)
        last = float(sums["loss_sum"] / sums["weight_sum"])
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": last, "flops": flops}

    return repeat


def hugging_face(args: argparse.Namespace, autocast: bool = False):
    import torch

    from benchmarks import peers

    model = peers.hugging_face(Path(args.folder, "hf"), args.cores, args.dropout)
    batch = tokens(args, model.config.vocab_size)
    inputs = torch.from_numpy(batch["encoder_input_tokens"]).long()
    labels = torch.from_numpy(batch["decoder_target_tokens"]).long()  # the model shifts them itself
    mask = torch.ones_like(inputs)
    products = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=autocast)
    with torch.inference_mode(), products():
        before = model(input_ids=inputs, attention_mask=mask, labels=labels).loss.item()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)  # the fastest on a CPU too

    def repeat() -> Result:
        for _ in range(args.steps):
            with products():
                loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": loss.item()}

    return repeat


def t5x(args: argparse.Namespace):
    import dataclasses

    import jax
    import numpy as np
    from flax.core import freeze
    from t5x import partitioning, trainer, utils

    from benchmarks import peers, weights

    peers.dispatch()
    config, params = weights.read(Path(args.folder, "hf"))
    model = peers.t5x(dataclasses.replace(config, dropout_rate=args.dropout))
    batch = tokens(args, config.vocab_size)
    batch["decoder_loss_weights"] = np.ones_like(batch["decoder_target_tokens"])
    before = float(jax.jit(model.eval_fn)(params, batch)[0])
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    shapes = {name: x.shape for name, x in batch.items()}
    types = {name: x.dtype for name, x in batch.items()}
    initial = utils.TrainStateInitializer(
        model.optimizer_def, model.get_initial_variables, shapes, partitioner, input_types=types
    )
    state = initial.from_scratch(jax.random.PRNGKey(0)).replace_params(freeze(params))
    del params
    rate: Any = lambda step: LEARNING_RATE  # noqa: E731 (T5X's type for it wants an array)
    theirs = trainer.Trainer(
        model, state, partitioner, [], None, initial.train_state_axes, jax.random.PRNGKey(0),
        learning_rate_fn=rate, num_microbatches=None,
    )  # fmt: skip
    del state
    batches = itertools.repeat(batch)

    def repeat() -> Result:
        metrics: Any = theirs.train(batches, args.steps).result()
        jax.block_until_ready(theirs.train_state)
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": float(metrics["loss"].value)}

    return repeat


def loss_tolerance(name: str) -> float:
    return ROUNDED_TOLERANCE if "bfloat16" in name else LOSS_TOLERANCE


def check(results: Results) -> list[str]:
    steps = {name: found for name, found in results.items() if "loss" in found[0]}
    mistakes = []
    ours, *_ = steps.values()
    for name, found in steps.items():
        keys = ["before"] + ["loss"] * (found[0]["dropout"] == 0.0 and found[0]["work"] == 1)
        for key in keys:
            if not abs(found[0][key] - ours[0][key]) < loss_tolerance(name):
                mistakes.append(f"{name}: {key} is {found[0][key]:.5f}, explainft's {ours[0][key]:.5f}")
        if len(found) > 1 and not found[-1]["loss"] < found[0]["loss"]:
            mistakes.append(f"{name}: the loss has not fallen: {found[0]['loss']:.5f}, then {found[-1]['loss']:.5f}")
    return mistakes


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    peaks = {
        name: statistics.median(turn["work"] / turn["seconds"] for turn in found[1:])
        for name, found in results.items()
        if "loss" not in found[0]
    }
    ours = results["explainft"]
    flops = args.steps * ours[0]["flops"]
    achieved = flops / 1e9 / statistics.median(turn["seconds"] for turn in ours[1:])
    losses = {f"loss before, {name}": found[0]["before"] for name, found in results.items() if "loss" in found[0]}
    share = {f"explainft's share of {name}": achieved / peak for name, peak in peaks.items()}
    return {**products.facts(results, flops), "GFLOP/s of our step": achieved, **share, **losses}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--targets", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--optimizer", default="adafactor", choices=("adafactor", "adamw"), help="ours; the recipe's")
    parser.add_argument("--microbatches", type=int, default=1, help="ours: parts of an update, one after the other")
    parser.add_argument("--steps", type=int, default=4, help="a turn")
    systems = (
        System("explainft", ours),
        System("explainft, asynchronous dispatch", ours, env=ASYNCHRONOUS),
        System("explainft, MATMUL_PRECISION=bfloat16", functools.partial(ours, matmul_precision="bfloat16")),
        System("Hugging Face", hugging_face, ("torch", "transformers")),
        System(
            "Hugging Face, autocast to bfloat16",
            functools.partial(hugging_face, autocast=True),
            ("torch", "transformers"),
        ),
        System("T5X", t5x, T5X_NEEDS, ASYNCHRONOUS),
        System("T5X, synchronous", t5x, T5X_NEEDS, SYNCHRONOUS),
        products.JAX,
        products.TORCH,
    )
    side_by_side.main(Row("step", systems, prepare, check, facts), parser)
