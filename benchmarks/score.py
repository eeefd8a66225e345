"""Scoring solutions with a verifier: explainft's score, and Hugging Face's T5 with its encoder run once a solution.

    python -m benchmarks.score

A solution's score comes from the likelihoods of two labels, EOS included. The weights are random and the solutions are
random tokens of the lengths of real ones; both contenders sort them by length, and their likelihoods are compared.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

from benchmarks import matmul, side_by_side
from benchmarks.side_by_side import BASELINE, Contender, Result, Results, Row

LABELS = ((2024, 1), (16, 2024, 1))  # as T5's vocabulary has them: a token, and two, before EOS
LENGTHS = (48, 320)  # tokens of a prompt with a problem and a solution
BASELINE_BATCHES = (8, 16, 32, 64, 128)
TRIAL = 256  # solutions that each batch size is tried on
DECODE_DTYPES = {"explainft": "float32", "explainft, bfloat16": "bfloat16"}
TOLERANCE = 2e-3  # relative, of log-likelihoods in float32


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights

    weights.write_random(Path(args.directory, "hf"), args.size)


def inputs(args: argparse.Namespace) -> list[list[int]]:
    """Returns token ids with EOS. Lengths are log-uniform: most solutions are short."""
    import numpy as np

    rng = np.random.default_rng(0)
    low, high = np.log(LENGTHS)
    lengths = np.exp(rng.uniform(low, high, args.solutions)).astype(int)
    return [[*rng.integers(2, args.max_token, n - 1).tolist(), 1] for n in lengths]


def labels(args: argparse.Namespace) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(token if token == 1 else token % args.max_token for token in label) for label in LABELS)


def set_up_explainft(args: argparse.Namespace, name: str):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.generation.likelihood import log_likelihoods
    from explainft.generation.quantization import decode_parameters
    from explainft.model.labels import Labels
    from explainft.model.t5 import T5

    config, params = weights.read(Path(args.directory, "hf"))
    params = decode_parameters(config, params, DECODE_DTYPES[name])
    solutions, read = inputs(args), [len(ids) for ids in inputs(args)]
    flops = matmul.encoding_flops(config, read)

    def repeat() -> Result:
        found = log_likelihoods(T5(config), params, solutions, Labels(labels(args)), args.batch)
        return {"work": len(solutions), "log-likelihoods": found.tolist(), "flops": flops}

    return repeat


def set_up_hugging_face(args: argparse.Namespace):
    import torch

    from benchmarks import baselines

    model = baselines.hugging_face(Path(args.directory, "hf"), args.cores)
    solutions, padded = inputs(args), max(map(len, labels(args)))
    targets = torch.tensor([[*label, *[0] * (padded - len(label))] for label in labels(args)])
    decoder_inputs = torch.nn.functional.pad(targets, (1, 0))[:, :-1]

    def score(solutions: list[list[int]], batch_size: int) -> list[list[float]]:
        order = sorted(range(len(solutions)), key=lambda i: len(solutions[i]))
        found: list[list[float]] = [[] for _ in solutions]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = torch.nn.utils.rnn.pad_sequence([torch.tensor(solutions[i]) for i in rows], batch_first=True)
            with torch.inference_mode():
                mask = (batch > 0).long()
                encoded: Any = model.encoder(input_ids=batch, attention_mask=mask).last_hidden_state
                each = len(targets)
                logits = model(
                    encoder_outputs=(encoded.repeat_interleave(each, 0),),
                    attention_mask=mask.repeat_interleave(each, 0),
                    decoder_input_ids=decoder_inputs.repeat(len(rows), 1),
                    use_cache=False,
                ).logits
                log_p = torch.log_softmax(logits, -1)
                tokens = targets.repeat(len(rows), 1)
                of_tokens = log_p.gather(-1, tokens[..., None])[..., 0] * (tokens > 0)
            for i, of_labels in zip(rows, of_tokens.sum(-1).reshape(-1, each).tolist(), strict=True):
                found[i] = of_labels
        return found

    def repeat(batch_size: int) -> Result:
        return {"work": len(solutions), "log-likelihoods": score(solutions, batch_size), "batch": batch_size}

    trial = solutions[:TRIAL]
    score(trial, TRIAL)
    seconds = {}
    for size in BASELINE_BATCHES:
        begin = time.perf_counter()
        score(trial, size)
        seconds[size] = time.perf_counter() - begin
    best = min(BASELINE_BATCHES, key=lambda size: seconds[size])
    return lambda: repeat(best)


def check(results: Results) -> list[str]:
    import numpy as np

    reference = np.array(results["explainft"][0]["log-likelihoods"])
    failures = []
    for name, repetitions in results.items():
        for repetition in repetitions if name in ("explainft", BASELINE) else ():
            difference = np.abs(np.array(repetition["log-likelihoods"]) / reference - 1).max()
            if not difference < TOLERANCE:
                failures.append(f"{name} differs by {difference:.1e} of a log-likelihood, over {TOLERANCE:g}")
    return failures


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    found = matmul.facts(results, results["explainft"][0]["flops"])
    return found | {
        f"best batch size, {name}": first["batch"] for name, (first, *_) in results.items() if "batch" in first
    }


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--solutions", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64, help="of explainft")
    parser.add_argument("--max_token", type=int, default=500, help="token ids are below it, which every size has")
    contenders = (
        *(Contender(name, functools.partial(set_up_explainft, name=name)) for name in DECODE_DTYPES),
        Contender(BASELINE, set_up_hugging_face, ("torch", "transformers")),
        matmul.JAX,
    )
    side_by_side.main(Row("solution", contenders, prepare, check, facts), parser)
