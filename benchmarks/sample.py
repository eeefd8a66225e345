"""Sampling many answers to each question: explainft's sample, and Hugging Face's generate with num_return_sequences.

    python -m benchmarks.sample

The network is the one of benchmarks/evaluate.py, temperature, top-k and top-p are the same. Two samplers never write
the same texts, so what is compared is the mean length of their answers and how many of them end.
"""

import argparse
import functools
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import evaluate, products, side_by_side
from benchmarks.evaluate import OURS, SPLIT, TASK, prepare
from benchmarks.side_by_side import PEER, Result, Results, Row, System

EOS = 1
PEER_BATCHES = (1, 2, 4, 8)  # expressions at a time
LENGTH_TOLERANCE = 0.05  # relative; the standard error of a mean over 2,048 answers is about 0.5%, over 512 about 1%


def inputs(args: argparse.Namespace) -> list[list[int]]:
    from explainft.data import token_cache

    cache = token_cache.load(TASK, SPLIT)
    return [cache.inputs[i].tolist() for i in range(args.expressions)]


def result(args: argparse.Namespace, answers: list[list[list[int]]]) -> Result:
    assert [len(of_one) for of_one in answers] == [args.samples] * args.expressions
    lengths = [len(ids) for of_one in answers for ids in of_one]
    return {
        "work": len(lengths),
        "mean_length": sum(lengths) / len(lengths),
        "ended": sum(n < args.length for n in lengths) / len(lengths),
        "different": sum(len({tuple(ids) for ids in of_one}) for of_one in answers) / len(lengths),
    }


def ours(args: argparse.Namespace, name: str):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.data import token_cache
    from explainft.generation import decoding
    from explainft.generation.quantization import Reduction

    config, params = weights.read(Path(args.folder, "hf"))
    params = Reduction(*OURS[name]).of(config, params, token_cache.load(TASK, SPLIT), meta={})
    questions = inputs(args)
    read = [len(ids) for ids in questions]
    encoding = products.encoding_flops(config, read)
    seed = 0

    def repeat() -> Result:
        nonlocal seed
        seed += 1
        answers = decoding.sample(
            config,
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
        written = [min(len(ids) + 1, args.length) for of_one in answers for ids in of_one]
        flops = encoding + products.writing_flops(config, each, written, config.vocab_size)
        by_length = sorted(range(len(read)), key=read.__getitem__)  # as they are batched
        in_order = [written[i * args.samples + n] for i in by_length for n in range(args.samples)]
        row_steps = evaluate.row_steps(in_order, args.batch, args.samples) / sum(written)
        return {**result(args, answers), "flops": flops, "row_steps": row_steps}

    return repeat


def hugging_face(args: argparse.Namespace):
    import torch

    from benchmarks import peers

    model = peers.hugging_face(Path(args.folder, "hf"), args.cores)
    torch.manual_seed(0)
    questions = sorted(inputs(args), key=len)

    def sample(questions: list[list[int]], batch_size: int) -> list[list[list[int]]]:
        answers = []
        for start in range(0, len(questions), batch_size):
            rows = [torch.tensor(ids) for ids in questions[start : start + batch_size]]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            with torch.inference_mode():
                written = model.generate(
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
            texts = [ids[: ids.index(EOS)] if EOS in ids else ids for ids in written[:, 1:].tolist()]
            answers += [texts[i : i + args.samples] for i in range(0, len(texts), args.samples)]
        return answers

    trial = questions[:: max(1, len(questions) // PEER_BATCHES[-1])][: PEER_BATCHES[-1]]
    sample(trial[:1], 1)
    seconds = {}
    for size in PEER_BATCHES:
        begin = time.perf_counter()
        sample(trial, size)
        seconds[size] = time.perf_counter() - begin
    best = min(PEER_BATCHES, key=lambda size: seconds[size])
    return lambda: {**result(args, sample(questions, best)), "batch": best}


def check(results: Results) -> list[str]:
    ours = results["explainft"][0]
    mistakes = []
    for name, found in results.items():
        if "mean_length" in found[0] and not abs(found[0]["mean_length"] / ours["mean_length"] - 1) < LENGTH_TOLERANCE:
            mean = found[0]["mean_length"]
            mistakes.append(f"{name}: answers have {mean:.1f} tokens on average, explainft's {ours['mean_length']:.1f}")
    return mistakes


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    ours = results["explainft"][1:]
    found = products.facts(results, statistics.mean(turn["flops"] for turn in ours))
    found["our rows x steps for each token written"] = statistics.mean(turn["row_steps"] for turn in ours)
    for name, (first, *_) in results.items():
        found |= {
            f"{key}, {name}": first[key] for key in ("mean_length", "ended", "different", "batch") if key in first
        }
    return found


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--expressions", type=int, default=32)
    parser.add_argument("--samples", type=int, default=64, help="for each expression")
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--batch", type=int, default=256, help="ours: batch_size")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top_k", type=int, default=40)
    parser.add_argument("--top_p", type=float, default=0.95)
    systems = (
        *(System(name, functools.partial(ours, name=name)) for name in OURS),
        System(PEER, hugging_face, ("torch", "transformers")),
        products.JAX,
    )
    side_by_side.main(Row("answer", systems, prepare, check, facts), parser)
