"""A training step on the same weights and tokens: explainft, Hugging Face's T5 with AdamW, T5X under its own trainer.

    python -m benchmarks.train_step --dropout 0.1

The machine's float32 matmul throughput, an upper limit for every contender, is measured in the same run.
"""

import argparse
import functools
import itertools
import statistics
from pathlib import Path
from typing import Any

from benchmarks import matmul, side_by_side
from benchmarks.side_by_side import Contender, Result, Results, Row

LEARNING_RATE = 1e-4
LOSS_TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 0.05  # with bfloat16 matmuls, whose loss is reported with the others
ASYNCHRONOUS, SYNCHRONOUS = ({"JAX_CPU_ENABLE_ASYNC_DISPATCH": value} for value in ("true", "false"))
T5X_NEEDS = ("t5x", "seqio")


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights

    weights.write_random(Path(args.directory, "hf"), args.size)


def tokens(args: argparse.Namespace, vocab_size: int) -> dict[str, Any]:
    """One batch without padding, that every contender trains on."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = rng.integers(2, vocab_size, (args.batch, args.inputs), np.int32)
    targets = rng.integers(2, vocab_size, (args.batch, args.targets), np.int32)
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return {"encoder_input_tokens": inputs, "decoder_input_tokens": shifted, "decoder_target_tokens": targets}


def set_up_explainft(args: argparse.Namespace, matmul_precision: str = "float32"):
    from explainft.core import jax_setup

    jax_setup.configure()
    import dataclasses

    import jax
    import jax.numpy as jnp

    from benchmarks import weights
    from explainft.model.execution import ExecutionConfig
    from explainft.model.flops import matmul_flops
    from explainft.model.loss import Loss
    from explainft.model.t5 import T5
    from explainft.parallel.sharding import make_mesh, resolve_execution
    from explainft.training import optimizers
    from explainft.training.train_state import TrainState
    from explainft.training.train_step import make_train_step

    config, params = weights.read(Path(args.directory, "hf"))
    config = dataclasses.replace(config, dropout_rate=args.dropout)
    loss = Loss()
    batch = tokens(args, config.vocab_size)
    for stack, name in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens")):
        batch[f"{stack}_segment_ids"] = (batch[name] > 0).astype("int32")

    @jax.jit
    def loss_without_dropout(params):
        logits_BTV: Any = T5(config).apply({"params": params}, **batch)
        sums = loss.sums(logits_BTV, batch["decoder_target_tokens"])
        return sums["loss_sum"] / sums["weight_sum"]

    before = float(loss_without_dropout(params))
    tx = {"adafactor": optimizers.adafactor, "adamw": optimizers.adamw}[args.optimizer](lambda _: LEARNING_RATE)
    mesh = make_mesh(1)
    execution = ExecutionConfig(matmul_precision=matmul_precision)
    execution = resolve_execution(execution, config, mesh, (args.inputs, args.targets))
    train_step = make_train_step(T5(config, execution), tx, loss, 0, args.microbatches)
    state = TrainState(jnp.int32(0), params, tx.init(params))
    # Rematerialized FLOPs are not counted.
    flops = matmul_flops(make_train_step(T5(config), tx, loss, seed=0), state, batch)
    del params  # the train step donates their buffers

    def repeat() -> Result:
        nonlocal state
        for _ in range(args.steps):
            state, sums = train_step(state, batch)
        jax.block_until_ready(state)
        last = float(sums["loss_sum"] / sums["weight_sum"])
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": last, "flops": flops}

    return repeat


def set_up_hugging_face(args: argparse.Namespace, autocast: bool = False):
    import torch

    from benchmarks import baselines

    model = baselines.hugging_face(Path(args.directory, "hf"), args.cores, args.dropout)
    batch = tokens(args, model.config.vocab_size)
    inputs = torch.from_numpy(batch["encoder_input_tokens"]).long()
    labels = torch.from_numpy(batch["decoder_target_tokens"]).long()  # the model shifts them itself
    mask = torch.ones_like(inputs)
    precision = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=autocast)
    with torch.inference_mode(), precision():
        before = model(input_ids=inputs, attention_mask=mask, labels=labels).loss.item()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)  # the fastest on a CPU too

    def repeat() -> Result:
        for _ in range(args.steps):
            with precision():
                loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": loss.item()}

    return repeat


def set_up_t5x(args: argparse.Namespace):
    import dataclasses

    import jax
    import numpy as np
    from flax.core import freeze
    from t5x import partitioning, trainer, utils

    from benchmarks import baselines, weights

    baselines.configure_dispatch()
    config, params = weights.read(Path(args.directory, "hf"))
    model = baselines.t5x(dataclasses.replace(config, dropout_rate=args.dropout))
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
    baseline_trainer = trainer.Trainer(
        model, state, partitioner, [], None, initial.train_state_axes, jax.random.PRNGKey(0),
        learning_rate_fn=rate, num_microbatches=None,
    )  # fmt: skip
    del state
    batches = itertools.repeat(batch)

    def repeat() -> Result:
        metrics: Any = baseline_trainer.train(batches, args.steps).result()
        jax.block_until_ready(baseline_trainer.train_state)
        return {"work": args.steps, "dropout": args.dropout, "before": before, "loss": float(metrics["loss"].value)}

    return repeat


def loss_tolerance(name: str) -> float:
    return ROUNDED_TOLERANCE if "bfloat16" in name else LOSS_TOLERANCE


def check(results: Results) -> list[str]:
    steps = {name: found for name, found in results.items() if "loss" in found[0]}
    failures = []
    explainft, *_ = steps.values()
    for name, found in steps.items():
        keys = ["before"] + ["loss"] * (found[0]["dropout"] == 0.0 and found[0]["work"] == 1)
        for key in keys:
            if not abs(found[0][key] - explainft[0][key]) < loss_tolerance(name):
                failures.append(f"{name}: {key} is {found[0][key]:.5f}, explainft's {explainft[0][key]:.5f}")
        if len(found) > 1 and not found[-1]["loss"] < found[0]["loss"]:
            failures.append(f"{name}: the loss did not fall: {found[0]['loss']:.5f}, then {found[-1]['loss']:.5f}")
    return failures


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    peaks = {
        name: statistics.median(repetition["work"] / repetition["seconds"] for repetition in found[1:])
        for name, found in results.items()
        if "loss" not in found[0]
    }
    explainft = results["explainft"]
    flops = args.steps * explainft[0]["flops"]
    achieved = flops / 1e9 / statistics.median(repetition["seconds"] for repetition in explainft[1:])
    losses = {f"loss before, {name}": found[0]["before"] for name, found in results.items() if "loss" in found[0]}
    fractions = {f"explainft's fraction of {name}": achieved / peak for name, peak in peaks.items()}
    return {**matmul.facts(results, flops), "matmul GFLOP/s of explainft": achieved, **fractions, **losses}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--targets", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--optimizer", default="adafactor", choices=("adafactor", "adamw"), help="of explainft")
    parser.add_argument("--microbatches", type=int, default=1, help="of explainft: MICROBATCHES")
    parser.add_argument("--steps", type=int, default=4, help="per repetition")
    contenders = (
        Contender("explainft", set_up_explainft),
        Contender("explainft, asynchronous dispatch", set_up_explainft, env=ASYNCHRONOUS),
        Contender(
            "explainft, MATMUL_PRECISION=bfloat16", functools.partial(set_up_explainft, matmul_precision="bfloat16")
        ),
        Contender("Hugging Face", set_up_hugging_face, ("torch", "transformers")),
        Contender(
            "Hugging Face, autocast to bfloat16",
            functools.partial(set_up_hugging_face, autocast=True),
            ("torch", "transformers"),
        ),
        Contender("T5X", set_up_t5x, T5X_NEEDS, ASYNCHRONOUS),
        Contender("T5X, synchronous", set_up_t5x, T5X_NEEDS, SYNCHRONOUS),
        matmul.JAX,
        matmul.TORCH,
    )
    side_by_side.main(Row("step", contenders, prepare, check, facts), parser)
