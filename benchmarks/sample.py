"""Sampling many answers to each question: explainft's sample, and Hugging Face's generate with num_return_sequences.

    python -m benchmarks.sample

The model is that of benchmarks/evaluate.py; temperature, top-k and top-p are the same. Two samplers never generate the
same outputs, so the mean length and the fraction that ends are compared.
"""

import argparse
import functools
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import matmul, side_by_side
from benchmarks.evaluate import DECODE_CONFIGS, SPLIT, TASK, prepare
from benchmarks.side_by_side import BASELINE, Contender, Result, Results, Row

EOS = 1
BASELINE_BATCHES = (1, 2, 4, 8)  # expressions at a time
LENGTH_TOLERANCE = 0.05  # relative; the standard error of a mean over 2,048 answers is about 0.5%, over 512 about 1%


def inputs(args: argparse.Namespace) -> list[list[int]]:
    from explainft.data import token_cache

    cache = token_cache.load(TASK, SPLIT)
    return [cache.inputs[i].tolist() for i in range(args.expressions)]


def result(args: argparse.Namespace, answers: list[list[list[int]]]) -> Result:
    assert [len(samples) for samples in answers] == [args.samples] * args.expressions
    lengths = [len(ids) for samples in answers for ids in samples]
    return {
        "work": len(lengths),
        "mean length": sum(lengths) / len(lengths),
        "finished": sum(n < args.length for n in lengths) / len(lengths),
        "distinct": sum(len({tuple(ids) for ids in samples}) for samples in answers) / len(lengths),
    }


def set_up_explainft(args: argparse.Namespace, name: str):
    from explainft.core import jax_setup

    jax_setup.configure(keep_large_blocks=False)
    from benchmarks import weights
    from explainft.data import token_cache
    from explainft.generation import decoding
    from explainft.generation.quantization import DecodeConfig
    from explainft.model.t5 import T5

    config, params = weights.read(Path(args.directory, "hf"))
    params = DecodeConfig(*DECODE_CONFIGS[name]).parameters_for(config, params, token_cache.load(TASK, SPLIT), meta={})
    questions = inputs(args)
    read = [len(ids) for ids in questions]
    encoding = matmul.encoding_flops(config, read)
    seed = 0

    def repeat() -> Result:
        nonlocal seed
        seed += 1
        answers = decoding.sample(
            T5(config),
            params,
            questions,
            length=args.length,
            batch_size=args.batch,
            num_samples=args.samples,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            seed=seed,
        )
        each = [S for S in read for _ in range(args.samples)]
        lengths = [min(len(ids) + 1, args.length) for samples in answers for ids in samples]
        flops = encoding + matmul.generation_flops(config, each, lengths, config.vocab_size)
        return {**result(args, answers), "flops": flops}

    return repeat


def set_up_hugging_face(args: argparse.Namespace):
    import torch

    from benchmarks import baselines

    model = baselines.hugging_face(Path(args.directory, "hf"), args.cores)
    torch.manual_seed(0)
    questions = sorted(inputs(args), key=len)

    def sample(questions: list[list[int]], batch_size: int) -> list[list[list[int]]]:
        answers = []
        for start in range(0, len(questions), batch_size):
            rows = [torch.tensor(ids) for ids in questions[start : start + batch_size]]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            with torch.inference_mode():
                generated = model.generate(
                    input_ids=batch,
                    attention_mask=(batch > 0).long(),
                    max_new_tokens=args.length,
                    do_sample=True,
                    num_return_sequences=args.samples,
                    temperature=args.temperature,
                    top_k=args.top_k,
                    top_p=args.top_p,
                    use_cache=True,
                )
            samples = [ids[: ids.index(EOS)] if EOS in ids else ids for ids in generated[:, 1:].tolist()]
            answers += [samples[i : i + args.samples] for i in range(0, len(samples), args.samples)]
        return answers

    trial = questions[:: max(1, len(questions) // BASELINE_BATCHES[-1])][: BASELINE_BATCHES[-1]]
    sample(trial[:1], 1)
    seconds = {}
    for size in BASELINE_BATCHES:
        begin = time.perf_counter()
        sample(trial, size)
        seconds[size] = time.perf_counter() - begin
    best = min(BASELINE_BATCHES, key=lambda size: seconds[size])
    return lambda: {**result(args, sample(questions, best)), "batch size": best}


def check(results: Results) -> list[str]:
    reference = results["explainft"][0]
    failures = []
    for name, found in results.items():
        mean, expected = found[0].get("mean length"), reference["mean length"]
        if mean is not None and not abs(mean / expected - 1) < LENGTH_TOLERANCE:
            failures.append(f"{name}: outputs have {mean:.1f} tokens on average, explainft's {expected:.1f}")
    return failures


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    repetitions = results["explainft"][1:]
    found = matmul.facts(results, statistics.mean(repetition["flops"] for repetition in repetitions))
    for name, (first, *_) in results.items():
        keys = ("mean length", "finished", "distinct", "batch size")
        found |= {f"{key}, {name}": first[key] for key in keys if key in first}
    return found


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--expressions", type=int, default=32)
    parser.add_argument("--samples", type=int, default=64, help="for each expression")
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--batch", type=int, default=256, help="of explainft: batch_size")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top_k", type=int, default=40)
    parser.add_argument("--top_p", type=float, default=0.95)
    contenders = (
        *(Contender(name, functools.partial(set_up_explainft, name=name)) for name in DECODE_CONFIGS),
        Contender(BASELINE, set_up_hugging_face, ("torch", "transformers")),
        matmul.JAX,
    )
    side_by_side.main(Row("answer", contenders, prepare, check, facts), parser)
