"""Evaluation end to end, text in and metrics out: explainft, and Hugging Face's generate at its fastest batch size.

    python -m benchmarks.evaluate

The model has T5-small's size and holds the trained weights that ship with the package, so explanations have realistic
lengths. Both contenders score with the task's own metrics and may generate as many tokens as the longest target has.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import matmul, side_by_side
from benchmarks.side_by_side import BASELINE, Contender, Result, Results, Row

TASK, SPLIT = "explained_listops30_medium_eval_test_compact", "test"
BASELINE_BATCHES = (16, 32, 64, 128, 256)
TRIAL = 256  # examples that each batch size is tried on
# DECODE_DTYPE and OUTPUT_VOCABULARY of each contender of explainft.
DECODE_CONFIGS = {
    "explainft": ("float32", "all"),
    "explainft, task vocabulary": ("float32", "task"),
    "explainft, task vocabulary, bfloat16": ("bfloat16", "task"),
    "explainft, task vocabulary, int8": ("int8", "task"),
}
# Their outputs must equal explainft's, except outputs with tokens outside the task's vocabulary for the second.
FLOATS = (BASELINE, "explainft, task vocabulary")


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights
    from explainft.data import token_cache

    weights.write_shipped(Path(args.directory, "hf"), args.size)
    token_cache.load(TASK, SPLIT)


def set_up_explainft(args: argparse.Namespace, name: str):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.data import token_cache
    from explainft.data.token_cache import target_token_ids
    from explainft.data.vocabulary import EOS_ID
    from explainft.evaluation.evaluate import evaluate_tasks
    from explainft.evaluation.evaluator import Evaluator
    from explainft.generation.generator import Generator
    from explainft.generation.quantization import DecodeConfig
    from explainft.model.t5 import T5

    config, params = weights.read(Path(args.directory, "hf"))
    cache = token_cache.load(TASK, SPLIT)
    params = DecodeConfig(*DECODE_CONFIGS[name]).parameters_for(config, params, cache, meta={})
    generator = Generator(T5(config), params, cache.vocabulary, args.batch)
    directory = Path(args.directory, name)
    known: Result = {}

    def repeat() -> Result:
        # The cache holds the token ids. Hugging Face tokenizes the text, so explainft tokenizes it here too.
        for i, record in enumerate(cache.records[: args.examples]):
            assert cache.inputs[i].tolist() == [*cache.vocabulary.encode(record["inputs_pretokenized"]), EOS_ID]
        metrics = evaluate_tasks([Evaluator(cache, args.examples)], lambda _: generator, 0, directory)[TASK]
        return {
            "work": args.examples,
            "metrics": metrics,
            "outputs": _predictions(directory / f"{TASK}-000000.jsonl"),
            **known,
        }

    if name == "explainft":
        read = [len(cache.inputs[i]) for i in range(args.examples)]
        tokens = [cache.vocabulary.encode(text) for text in repeat()["outputs"]]
        vocabulary = set(target_token_ids(cache).tolist())
        known["outside vocabulary"] = [i for i, ids in enumerate(tokens) if not vocabulary.issuperset(ids)]
        lengths = [len(ids) + 1 for ids in tokens]
        flops = matmul.generation_flops(config, read, lengths, config.vocab_size)
        known["flops"] = matmul.encoding_flops(config, read) + flops
        in_order = [lengths[i] for i in sorted(range(args.examples), key=lambda i: read[i])]
        known["row_steps"] = row_steps(in_order, args.batch) / sum(lengths)
    return repeat


def row_steps(lengths: Sequence[int], batch: int) -> int:
    """Returns the rows times steps that decoding computes for outputs of these lengths, in their order of batching.

    A batch is compacted to half its rows when half of them have ended, down to batching.MIN_ROWS.
    """
    from explainft.generation.batching import MIN_ROWS

    total = 0
    for start in range(0, len(lengths), batch):
        rows, step, left = batch, 0, sorted(lengths[start : start + batch])
        while left:
            half = rows // 2
            max_unfinished = half if half >= MIN_ROWS else 0
            until = left[-max_unfinished - 1] if len(left) > max_unfinished else step
            total += rows * (until - step)
            left, rows, step = [length for length in left if length > until], half, until
    return total


def _predictions(file: Path) -> list[str]:
    import json

    return [json.loads(line)["prediction"] for line in file.read_text(encoding="utf-8").splitlines()]


def set_up_hugging_face(args: argparse.Namespace):
    import torch
    from transformers import AutoTokenizer

    from benchmarks import baselines
    from explainft.data import token_cache
    from explainft.evaluation.evaluator import Evaluator
    from explainft.generation.generator import Output

    directory = Path(args.directory, "hf")
    model, tokenizer = baselines.hugging_face(directory, args.cores), AutoTokenizer.from_pretrained(directory)
    cache = token_cache.load(TASK, SPLIT)
    records = cache.records[: args.examples]
    length = int(cache.targets.lengths[: args.examples].max())

    def decode(records: list[Any], batch_size: int) -> list[str]:
        inputs = tokenizer([record["inputs_pretokenized"] for record in records])["input_ids"]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))  # as explainft does
        outputs = [""] * len(inputs)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [inputs[i] for i in rows]}, return_tensors="pt")
            with torch.inference_mode():
                generated = model.generate(**batch, max_new_tokens=length, do_sample=False, use_cache=True)
            for i, text in zip(rows, tokenizer.batch_decode(generated, skip_special_tokens=True), strict=True):
                outputs[i] = text
        return outputs

    def repeat(batch_size: int) -> Result:
        outputs = decode(records, batch_size)
        metrics = Evaluator(cache, args.examples).score([Output(text) for text in outputs]).metrics
        return {"work": args.examples, "metrics": metrics, "outputs": outputs, "batch": batch_size}

    trial = records[:: max(1, len(records) // TRIAL)][:TRIAL]
    decode(trial, len(trial))
    seconds = {}
    for size in BASELINE_BATCHES:
        begin = time.perf_counter()
        decode(trial, size)
        seconds[size] = time.perf_counter() - begin
    best = min(BASELINE_BATCHES, key=lambda size: seconds[size])
    return lambda: repeat(best)


def find_differing(outputs: Sequence[str], reference: Sequence[str]) -> set[int]:
    return {i for i, (a, b) in enumerate(zip(outputs, reference, strict=True)) if a != b}


def check(results: Results) -> list[str]:
    reference = results["explainft"][0]
    failures = []
    for name, repetitions in results.items():
        excused = set() if name in ("explainft", BASELINE) else {*reference["outside vocabulary"]}
        for repetition in repetitions if name in ("explainft", *FLOATS) else ():
            if differing := find_differing(repetition["outputs"], reference["outputs"]) - excused:
                total = len(repetition["outputs"])
                failures.append(f"{name} generates {len(differing)} of {total} outputs differently")
            elif repetition["outputs"] == reference["outputs"] and repetition["metrics"] != reference["metrics"]:
                failures.append(f"{name} scores the same outputs differently")
    return failures


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    reference = results["explainft"][0]
    found = {
        "parseable": reference["metrics"]["parseable"],
        "mean characters per output": sum(map(len, reference["outputs"])) / args.examples,
        "outputs with a token outside the task's vocabulary": len(reference["outside vocabulary"]),
        "exact match": reference["metrics"]["exact_match"],
    }
    for name, (repetition, *_) in results.items():
        if "outputs" in repetition and name != "explainft":
            found |= {
                f"exact match, {name}": repetition["metrics"]["exact_match"],
                f"fraction of outputs of {name} equal to explainft's": 1
                - len(find_differing(repetition["outputs"], reference["outputs"])) / args.examples,
            }
    found |= matmul.facts(results, reference["flops"])
    found["row-steps of explainft per generated token"] = reference["row_steps"]
    return found | {
        f"best batch size, {name}": first["batch"] for name, (first, *_) in results.items() if "batch" in first
    }


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64, help="of explainft; default: the recipes' EVAL_BATCH_SIZE")
    contenders = (
        *(Contender(name, functools.partial(set_up_explainft, name=name)) for name in DECODE_CONFIGS),
        Contender(BASELINE, set_up_hugging_face, ("torch", "transformers")),
        matmul.JAX,
    )
    side_by_side.main(Row("example", contenders, prepare, check, facts), parser)
