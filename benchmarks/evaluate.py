"""Evaluation end to end, texts in and metrics out: explainft, and Hugging Face's generate with its best batch size.

    python -m benchmarks.evaluate

The network is T5-small's size and holds the trained one that ships with the package, so its explanations have real
lengths and ends. Both score with the task's own metrics; both may write as much as the longest right explanation has.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import products, side_by_side
from benchmarks.side_by_side import PEER, Result, Results, Row, System

TASK, SPLIT = "explained_listops30_medium_eval_test_compact", "test"
PEER_BATCHES = (16, 32, 64, 128, 256)
TRIAL = 256  # examples that each batch size is tried on
# Ours, by DECODE_DTYPE and OUTPUT_VOCABULARY.
OURS = {
    "explainft": ("float32", "all"),
    "explainft, task's pieces": ("float32", "task"),
    "explainft, task's pieces, bfloat16": ("bfloat16", "task"),
    "explainft, task's pieces, int8": ("int8", "task"),
}
# Their texts must be ours, but for those with pieces that the second may not write. Fewer bits round the weights.
FLOATS = (PEER, "explainft, task's pieces")


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights
    from explainft.data import token_cache

    weights.write_shipped(Path(args.folder, "hf"), args.size)
    token_cache.load(TASK, SPLIT)


def ours(args: argparse.Namespace, name: str):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.data import token_cache
    from explainft.data.token_cache import target_pieces
    from explainft.data.vocabulary import EOS_ID
    from explainft.evaluation import evaluate
    from explainft.generation.quantization import Reduction

    config, params = weights.read(Path(args.folder, "hf"))
    cache = token_cache.load(TASK, SPLIT)
    params = Reduction(*OURS[name]).of(config, params, cache, meta={})
    folder = Path(args.folder, name)
    known: Result = {}

    def repeat() -> Result:
        # The cache has the tokens already. Hugging Face has to make them from the text, so we do it once more.
        for i, record in enumerate(cache.records[: args.examples]):
            assert cache.inputs[i].tolist() == [*cache.vocabulary.encode(record["inputs_pretokenized"]), EOS_ID]
        metrics = evaluate.decode_and_score(config, params, cache, args.batch, args.examples, 0, folder)
        return {
            "work": args.examples,
            "metrics": metrics,
            "texts": _predictions(folder / f"{TASK}-000000.jsonl"),
            **known,
        }

    if name == "explainft":
        read = [len(cache.inputs[i]) for i in range(args.examples)]
        tokens = [cache.vocabulary.encode(text) for text in repeat()["texts"]]
        of_task = set(target_pieces(cache).tolist())
        known["of other pieces"] = [i for i, ids in enumerate(tokens) if not of_task.issuperset(ids)]
        written = [len(ids) + 1 for ids in tokens]
        flops = products.writing_flops(config, read, written, config.vocab_size)
        known["flops"] = products.encoding_flops(config, read) + flops
        in_order = [written[i] for i in sorted(range(args.examples), key=lambda i: read[i])]
        known["row_steps"] = row_steps(in_order, args.batch) / sum(written)
    return repeat


def row_steps(written: Sequence[int], batch: int, copies: int | None = None) -> int:
    """Rows times steps that decoding makes for texts of these lengths, in the order in which they are batched.

    The rows of a batch halve when half of them have ended, down to decoding.FEWEST_ROWS; refilled, they would come to
    the sum of the lengths. `copies`: texts of an input, half of which must have ended for each input of the batch.
    """
    from explainft.generation.decoding import FEWEST_ROWS

    total, copies = 0, copies or batch
    groups = batch // copies
    for start in range(0, len(written), batch):
        rows, step = copies, 0
        left = [sorted(written[i : i + copies]) for i in range(start, min(start + batch, len(written)), copies)]
        while any(left):
            half = rows // 2
            enough = half if half * groups >= FEWEST_ROWS else 0
            until = max(group[-enough - 1] if len(group) > enough else step for group in left)
            total += groups * rows * (until - step)
            left, rows, step = [[length for length in group if length > until] for group in left], half, until
    return total


def _predictions(file: Path) -> list[str]:
    import json

    return [json.loads(line)["prediction"] for line in file.read_text(encoding="utf-8").splitlines()]


def hugging_face(args: argparse.Namespace):
    import torch
    from transformers import AutoTokenizer

    from benchmarks import peers
    from explainft.data import token_cache
    from explainft.evaluation import evaluate

    folder = Path(args.folder, "hf")
    model, tokenizer = peers.hugging_face(folder, args.cores), AutoTokenizer.from_pretrained(folder)
    cache = token_cache.load(TASK, SPLIT)
    records = cache.records[: args.examples]
    length = int(cache.targets.lengths[: args.examples].max())

    def decode(records: list[Any], batch_size: int) -> list[str]:
        inputs = tokenizer([record["inputs_pretokenized"] for record in records])["input_ids"]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))  # as we do: rows that end early share a batch
        texts = [""] * len(inputs)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [inputs[i] for i in rows]}, return_tensors="pt")
            with torch.inference_mode():
                written = model.generate(**batch, max_new_tokens=length, do_sample=False, use_cache=True)
            for i, text in zip(rows, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                texts[i] = text
        return texts

    def repeat(batch_size: int) -> Result:
        texts = decode(records, batch_size)
        metrics, _, _ = evaluate.score(cache, records, texts)
        return {"work": args.examples, "metrics": metrics, "texts": texts, "batch": batch_size}

    trial = records[:: max(1, len(records) // TRIAL)][:TRIAL]
    decode(trial, len(trial))
    seconds = {}
    for size in PEER_BATCHES:
        begin = time.perf_counter()
        decode(trial, size)
        seconds[size] = time.perf_counter() - begin
    best = min(PEER_BATCHES, key=lambda size: seconds[size])
    return lambda: repeat(best)


def different(texts: Sequence[str], ours: Sequence[str]) -> set[int]:
    return {i for i, (a, b) in enumerate(zip(texts, ours, strict=True)) if a != b}


def check(results: Results) -> list[str]:
    ours = results["explainft"][0]
    mistakes = []
    for name, turns in results.items():
        excused = set() if name in ("explainft", PEER) else {*ours["of other pieces"]}
        for turn in turns if name in ("explainft", *FLOATS) else ():
            if wrong := different(turn["texts"], ours["texts"]) - excused:
                mistakes.append(f"{name} writes {len(wrong)} of {len(turn['texts'])} texts differently")
            elif turn["texts"] == ours["texts"] and turn["metrics"] != ours["metrics"]:
                mistakes.append(f"{name} scores the same texts differently")
    return mistakes


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    ours = results["explainft"][0]
    found = {
        "parseable": ours["metrics"]["parseable"],
        "characters a text": sum(map(len, ours["texts"])) / args.examples,
        "texts with a piece that no right text has": len(ours["of other pieces"]),
        "exact match": ours["metrics"]["exact_match"],
    }
    for name, (turn, *_) in results.items():
        if "texts" in turn and name != "explainft":
            found |= {
                f"exact match, {name}": turn["metrics"]["exact_match"],
                f"texts of {name} that are those of explainft": 1
                - len(different(turn["texts"], ours["texts"])) / args.examples,
            }
    found |= products.facts(results, ours["flops"])
    found["our rows x steps for each token written"] = ours["row_steps"]
    return found | {f"{name}, best batch": turns[0]["batch"] for name, turns in results.items() if "batch" in turns[0]}


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64, help="ours; the recipes' EVAL_BATCH_SIZE")
    systems = (
        *(System(name, functools.partial(ours, name=name)) for name in OURS),
        System(PEER, hugging_face, ("torch", "transformers")),
        products.JAX,
    )
    side_by_side.main(Row("example", systems, prepare, check, facts), parser)
