"""Fine-tuning T5-small on explanations of their real lengths: our packed rows, and Hugging Face's padded batches.

    python -m benchmarks.fine_tune

Hugging Face pads to the longest example of a batch, once with batches of random examples and once with examples of
similar lengths grouped as its Trainer does it, each with the batch size that is the fastest here. A turn is a sample of
an epoch, so work is counted in examples of mean length: real tokens over the mean of the data.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks import products, side_by_side
from benchmarks.side_by_side import Result, Results, Row, System
from benchmarks.train_step import LEARNING_RATE, loss_tolerance

# The compact twin's texts in a network of T5's vocabulary: the layout of the work is the data's, its size T5-small's.
TASK = "explained_listops30_medium_compact"
PEER_BATCHES = (4, 8, 16, 32)
MEGA_BATCH = 50  # batches that the Trainer sorts by length at a time
SAMPLED = 4  # of these batches a turn takes, from the shortest to the longest


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights
    from explainft.data import token_cache

    weights.write_random(Path(args.folder, "hf"), args.size)
    token_cache.load(TASK, "train")


def data(args: argparse.Namespace) -> tuple[Any, float]:
    """Our packed batches, which also say which examples the others read, and the mean tokens of an example."""
    from explainft.data import token_cache
    from explainft.data.batches import Batches

    cache = token_cache.load(TASK, "train")
    mean = float((cache.inputs.lengths + cache.targets.lengths).mean())
    return Batches(cache, {"inputs": args.inputs, "targets": args.targets}, args.batch, seed=0, packed=True), mean


def ours(args: argparse.Namespace, of_task: bool = False, matmul_precision: str = "float32"):
    from explainft.core import jax_setup

    jax_setup.configure()
    import dataclasses

    import jax
    import jax.numpy as jnp

    from benchmarks import weights
    from explainft.data.token_cache import target_pieces
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
    batches, mean = data(args)
    learned = dataclasses.replace(loss, pieces=(0, *target_pieces(batches.cache).tolist())) if of_task else loss

    @jax.jit
    def loss_without_dropout(params, batch):
        sums = loss.sums(forward(T5(config), params, batch), batch["decoder_target_tokens"])
        return sums["loss_sum"] / sums["weight_sum"]

    before = float(loss_without_dropout(params, batches[0]))
    tx = optimizers.adafactor(lambda _: LEARNING_RATE)
    mesh = make_mesh(1)
    update = make_train_step(suited(config, mesh, (args.inputs, args.targets)), tx, learned, seed=0)
    state = TrainState(jnp.int32(0), params, tx.init(params))
    flops = matmul_flops(make_train_step(config, tx, learned, seed=0), state, batches[0])
    del params  # the updates take their memory over

    def repeat() -> Result:
        nonlocal state
        tokens = 0
        for _ in range(args.steps):
            state, sums = update(state, batches[int(state.step)])
            tokens += int(sums["tokens"])
        jax.block_until_ready(state)
        padding = 1 - tokens / (args.steps * args.batch * (args.inputs + args.targets))
        return {
            "work": tokens / mean,
            "before": before,
            "padding": padding,
            "loss": float(sums["loss_sum"]),
            "flops": args.steps * flops,
        }

    return repeat


def hugging_face(args: argparse.Namespace, grouped: bool):
    import numpy as np
    import torch

    from benchmarks import peers

    model = peers.hugging_face(Path(args.folder, "hf"), args.cores, args.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    batches, mean = data(args)
    cache = batches.cache
    lengths = cache.inputs.lengths + cache.targets.lengths
    rng = np.random.default_rng(0)
    turn = 0

    def padded(ragged: Any, examples: Any, filler: int) -> torch.Tensor:
        rows = [torch.from_numpy(ragged[i].copy()).long() for i in examples]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)

    def loss_of(examples: Any) -> torch.Tensor:
        inputs, labels = padded(cache.inputs, examples, 0), padded(cache.targets, examples, -100)
        return model(input_ids=inputs, attention_mask=(inputs > 0).long(), labels=labels).loss

    def in_our_batch(step: int) -> np.ndarray:
        epoch, place = divmod(step * args.batch, len(batches.packing))
        rows = batches._order(epoch)[place : place + args.batch]
        starts = batches.packing.starts
        return np.concatenate([batches.packing.examples[starts[r] : starts[r + 1]] for r in rows])

    def batches_of_turn(size: int) -> list[np.ndarray]:
        if not grouped:
            examples = in_our_batch(turn)
            return [examples[i : i + size] for i in range(0, len(examples), size)]
        mega = rng.choice(len(lengths), MEGA_BATCH * size, replace=False)
        by_length = mega[np.argsort(lengths[mega], kind="stable")].reshape(MEGA_BATCH, size)
        middles = (np.arange(SAMPLED) + 0.5) * MEGA_BATCH / SAMPLED
        return list(by_length[middles.astype(int)])

    def train(size: int) -> float:
        """Examples of mean length."""
        nonlocal turn
        chosen = batches_of_turn(size)
        turn += 1
        for examples in chosen:
            loss = loss_of(examples)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return float(lengths[np.concatenate(chosen)].sum()) / mean

    examples = in_our_batch(0)
    with torch.inference_mode():
        weights = [int(cache.targets.lengths[examples[i : i + 16]].sum()) for i in range(0, len(examples), 16)]
        losses = [loss_of(examples[i : i + 16]).item() for i in range(0, len(examples), 16)]
    before = float(np.average(losses, weights=weights))
    model.train()
    train(PEER_BATCHES[0])
    rates = {}
    for size in PEER_BATCHES:
        begin = time.perf_counter()
        rates[size] = train(size) / (time.perf_counter() - begin)
        if rates[size] < max(rates.values()):
            break  # larger ones would be slower yet, and torch would keep their memory
    best = max(rates, key=lambda size: rates[size])
    turn = 0
    return lambda: {"work": train(best), "before": before, "batch": best}


def check(results: Results) -> list[str]:
    ours = results["explainft"][0]["before"]
    return [
        f"{name}: the loss of the same examples is {found[0]['before']:.5f}, explainft's {ours:.5f}"
        for name, found in results.items()
        if "before" in found[0] and not abs(found[0]["before"] - ours) < loss_tolerance(name)
    ]


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    turns = results["explainft"][1:]
    peers = {f"{name}, best batch": found[0]["batch"] for name, found in results.items() if "batch" in found[0]}
    losses = {f"loss before, {name}": found[0]["before"] for name, found in results.items() if "before" in found[0]}
    padding = sum(turn["padding"] for turn in turns) / len(turns)
    return {**products.facts(results, turns[0]["flops"]), "our padding share": padding, **peers, **losses}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    # The recipes' 32 rows take four times as long for the same rate, in as many times the memory.
    parser.add_argument("--batch", type=int, default=8, help="packed rows in an update of ours")
    # In the proportion of the examples' mean lengths.
    parser.add_argument("--inputs", type=int, default=256, help="of a packed row")
    parser.add_argument("--targets", type=int, default=384, help="of a packed row")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=4, help="of ours, a turn")
    needs = ("torch", "transformers")
    systems = (
        System("explainft", ours),
        System("explainft, OUTPUT_VOCABULARY=task", lambda args: ours(args, True)),
        System("explainft, MATMUL_PRECISION=bfloat16", lambda args: ours(args, False, "bfloat16")),
        System(
            "explainft, OUTPUT_VOCABULARY=task and MATMUL_PRECISION=bfloat16", lambda args: ours(args, True, "bfloat16")
        ),
        System("Hugging Face", lambda args: hugging_face(args, False), needs),
        System("Hugging Face, grouped by length", lambda args: hugging_face(args, True), needs),
        products.JAX,
    )
    side_by_side.main(Row("example", systems, prepare, check, facts), parser)
