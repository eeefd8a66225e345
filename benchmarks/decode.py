"""Greedy decoding of the same weights and inputs: explainft, Hugging Face's generate, T5X, CTranslate2.

    python -m benchmarks.decode --batch 16 --length 64

The weights never generate EOS, so every contender generates `--length` tokens for each input, and in float32 the same
ones, up to the first float32 tie. The memory bandwidth, which bounds a step of few rows, and the matmul throughput,
which bounds encoding, are measured in the same run.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks import matmul, side_by_side
from benchmarks.side_by_side import Contender, Result, Results, Row

FLOATS = ("Hugging Face", "T5X", "CTranslate2 float32")  # whose outputs must equal those of explainft
MEMORY = "memory read"
ROUNDING = 1e-3  # relative to the argmax logit: closer tokens tie in float32


def prepare(args: argparse.Namespace) -> None:
    import importlib.util

    from benchmarks import weights

    directory = Path(args.directory)
    weights.write_random(directory / "hf", args.size)
    if importlib.util.find_spec("ctranslate2") and importlib.util.find_spec("transformers"):
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(directory / "hf")).convert(str(directory / "ct2"))


def inputs(args: argparse.Namespace, vocab_size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(2, vocab_size, (args.batch, args.inputs), np.int32)


def result(args: argparse.Namespace, outputs: list[list[int]]) -> Result:
    assert [len(ids) for ids in outputs] == [args.length] * args.batch, [len(ids) for ids in outputs]
    return {"work": args.batch * args.length, "outputs": outputs}


def set_up_explainft(args: argparse.Namespace, dtype: str = "float32"):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.generation import decoding
    from explainft.generation.quantization import decode_parameters
    from explainft.model.t5 import T5

    config, params = weights.read(Path(args.directory, "hf"))
    params = decode_parameters(config, params, dtype)
    rows = list(inputs(args, config.vocab_size))
    known: dict[str, Any] = {}
    if dtype == "float32":
        input_lengths, output_lengths = [args.inputs] * args.batch, [args.length] * args.batch
        known["bytes"] = _bytes_per_step(config, params, args)
        known["encoding"] = matmul.encoding_flops(config, input_lengths)
        known["generation"] = matmul.generation_flops(config, input_lengths, output_lengths, config.vocab_size)

    def repeat() -> Result:
        return {**result(args, decoding.generate(T5(config), params, rows, args.length, args.batch)), **known}

    if dtype == "float32":
        known["ties"] = _find_ties(config, params, rows, repeat()["outputs"])
    return repeat


def _find_ties(config: Any, params: Any, rows: Any, outputs: list[list[int]]) -> list[dict[str, int]]:
    """Returns for each output the positions where rounding decides the argmax, each with the other token id."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from explainft.model.t5 import T5

    @jax.jit
    def best_two(params, row_BS, output_BT):
        before_BT = jnp.pad(output_BT, ((0, 0), (1, 0)))[:, :-1]
        logits_BTV = T5(config).apply({"params": params}, row_BS, before_BT, jnp.ones_like(output_BT))
        return jax.lax.top_k(logits_BTV[0], 2)

    found = []
    for row, output in zip(rows, outputs, strict=True):
        logits_T2, tokens_T2 = map(np.asarray, best_two(params, row[None], np.array([output], np.int32)))
        near_T = logits_T2[:, 0] - logits_T2[:, 1] <= ROUNDING * np.abs(logits_T2[:, 0])
        other_T = np.where(tokens_T2[:, 0] == output, tokens_T2[:, 1], tokens_T2[:, 0])
        found.append({str(t): int(other_T[t]) for t in np.flatnonzero(near_T)})
    return found


def _bytes_per_step(config: Any, params: Any, args: argparse.Namespace) -> int:
    """Returns the mean bytes that a float32 decode step reads: the kernels, and the keys and values cached so far."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(params["decoder"])
    kernels = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size for path, leaf in leaves}
    projected_once = ("encoder_decoder_attention/key/kernel", "encoder_decoder_attention/value/kernel")
    size = sum(n for name, n in kernels.items() if not name.endswith(projected_once))
    if config.logits_via_embedding:
        size += config.vocab_size * config.emb_dim
    heads = config.num_heads * config.head_dim
    size += 2 * config.num_decoder_layers * args.batch * heads * (args.inputs + args.length // 2)
    return 4 * size


def set_up_memory_read(args: argparse.Namespace):
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    parts = [np.ones(2**27 // args.cores, np.float32) for _ in range(args.cores)]
    pool = ThreadPoolExecutor(args.cores)

    def repeat() -> Result:
        list(pool.map(np.max, parts))  # numpy releases the GIL, so the parts are read in parallel
        return {"work": sum(part.nbytes for part in parts) / 1e9}

    return repeat


def set_up_hugging_face(args: argparse.Namespace):
    import torch

    from benchmarks import baselines

    model = baselines.hugging_face(Path(args.directory, "hf"), args.cores)
    rows = torch.from_numpy(inputs(args, model.config.vocab_size)).long()
    mask = torch.ones_like(rows)

    def repeat() -> Result:
        with torch.inference_mode():
            generated = model.generate(
                input_ids=rows, attention_mask=mask, max_new_tokens=args.length, do_sample=False, use_cache=True
            )
        return result(args, generated[:, 1:].tolist())  # without the decoder's start token

    return repeat


def set_up_t5x(args: argparse.Namespace):
    import jax
    import numpy as np

    from benchmarks import baselines, weights

    baselines.configure_dispatch()
    config, params = weights.read(Path(args.directory, "hf"))
    model = baselines.t5x(config)
    batch = {
        "encoder_input_tokens": inputs(args, config.vocab_size),
        "decoder_input_tokens": np.zeros((args.batch, args.length), np.int32),
    }
    decode = jax.jit(lambda params, batch: model.predict_batch_with_aux(params, batch, num_decodes=1)[0])
    return lambda: result(args, np.asarray(decode(params, batch)).tolist())


def set_up_ctranslate2(args: argparse.Namespace, compute_type: str):
    import json

    import ctranslate2

    directory = Path(args.directory, "ct2")
    tokens = json.loads((directory / "shared_vocabulary.json").read_text())
    ids = {token: i for i, token in enumerate(tokens)}
    rows = [[tokens[i] for i in row] for row in inputs(args, len(tokens)).tolist()]
    translator = ctranslate2.Translator(
        str(directory), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=args.cores
    )

    def repeat() -> Result:
        translations = translator.translate_batch(rows, beam_size=1, max_decoding_length=args.length)
        return result(args, [[ids[token] for token in translation.hypotheses[0]] for translation in translations])

    return repeat


def check(results: Results) -> list[str]:
    reference = results["explainft"][0]
    failures = []
    for name, found in results.items():
        if name == "explainft" or name in FLOATS:
            for repetition in found:
                rows = zip(repetition["outputs"], reference["outputs"], reference["ties"], strict=True)
                differing = sum(not _equal_up_to_ties(*row) for row in rows)
                if differing:
                    failures.append(f"{name} generates {differing} of {len(repetition['outputs'])} outputs differently")
    return failures


def _equal_up_to_ties(output: list[int], reference: list[int], ties: dict[str, int]) -> bool:
    """Whether the first token that differs is a tie in float32; what follows it is conditioned on another token."""
    first = next((t for t, (a, b) in enumerate(zip(output, reference, strict=True)) if a != b), None)
    return first is None or ties.get(str(first)) == output[first]


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    outputs = {name: found[0]["outputs"] for name, found in results.items() if "outputs" in found[0]}
    distinct = {token for row in outputs["explainft"] for token in row}
    found: dict[str, Any] = {"distinct tokens in explainft's outputs": len(distinct)}
    for name in outputs.keys() & {*FLOATS}:
        differing = sum(a != b for a, b in zip(outputs[name], outputs["explainft"], strict=True))
        found[f"outputs of {name} that differ by rounding"] = differing
    for name in outputs.keys() - {"explainft", *FLOATS}:
        pairs = zip(outputs[name], outputs["explainft"], strict=True)
        same = sum(a == b for one, other in pairs for a, b in zip(one, other, strict=True))
        found[f"fraction of tokens of {name} equal to float32"] = same / (args.batch * args.length)
    read = results["explainft"][0]["bytes"] / 1e9
    seconds = statistics.median(repetition["seconds"] for repetition in results["explainft"][1:])
    found["GB read per float32 decode step"] = read
    found["minimum read bandwidth of explainft in GB/s"] = read * args.length / seconds
    encoding, generation = (results["explainft"][0][work] for work in ("encoding", "generation"))
    found |= matmul.facts(results, encoding + generation)
    if {matmul.JAX.name, MEMORY} <= results.keys():
        speed = statistics.median(repetition["work"] / repetition["seconds"] for repetition in results[MEMORY][1:])
        steps = max(matmul.seconds(results, generation), read * args.length / speed)
        found[matmul.LOWER_BOUND] = matmul.seconds(results, encoding) + steps
    return found


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--length", type=int, default=64)
    needs = ("ctranslate2", "transformers", "torch")
    contenders = (
        Contender("explainft", set_up_explainft),
        Contender("explainft bfloat16", lambda a: set_up_explainft(a, "bfloat16")),
        Contender("explainft int8", lambda a: set_up_explainft(a, "int8")),
        Contender("Hugging Face", set_up_hugging_face, ("torch", "transformers")),
        Contender("T5X", set_up_t5x, ("t5x", "seqio"), {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}),  # its best setting
        Contender("CTranslate2 float32", lambda a: set_up_ctranslate2(a, "float32"), needs),
        Contender("CTranslate2 int8", lambda a: set_up_ctranslate2(a, "int8"), needs),
        Contender(MEMORY, set_up_memory_read, unit="GB"),
        matmul.JAX,
    )
    side_by_side.main(Row("token", contenders, prepare, check, facts), parser)
