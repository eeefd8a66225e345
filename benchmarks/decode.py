"""Greedy decoding of the same weights and inputs: explainft, Hugging Face's generate, T5X, CTranslate2.

    python -m benchmarks.decode --batch 16 --length 64

The weights never write EOS, so every system writes `--length` tokens for each input, and in float32 the same ones: up
to where, in long texts, two tokens are equally likely but for rounding. Beside them the speed of reading memory is
measured, which a step of few rows cannot beat, and that of matrix products, which reading the inputs cannot.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks import products, side_by_side
from benchmarks.side_by_side import Result, Results, Row, System

FLOATS = ("Hugging Face", "T5X", "CTranslate2 float32")  # whose texts must be ours; fewer bits round the weights
MEMORY = "reading memory"
ROUNDING = 1e-3  # of the likeliest token's logit: two tokens so near are one another's equals in float32


def prepare(args: argparse.Namespace) -> None:
    import importlib.util

    from benchmarks import weights

    folder = Path(args.folder)
    weights.write_random(folder / "hf", args.size)
    if importlib.util.find_spec("ctranslate2") and importlib.util.find_spec("transformers"):
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(folder / "hf")).convert(str(folder / "ct2"))


def inputs(args: argparse.Namespace, vocab_size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(2, vocab_size, (args.batch, args.inputs), np.int32)


def result(args: argparse.Namespace, texts: list[list[int]]) -> Result:
    assert [len(ids) for ids in texts] == [args.length] * args.batch, [len(ids) for ids in texts]
    return {"work": args.batch * args.length, "texts": texts}


def ours(args: argparse.Namespace, dtype: str = "float32"):
    from explainft.core import jax_setup

    jax_setup.configure()
    from benchmarks import weights
    from explainft.generation import decoding
    from explainft.generation.quantization import reduced

    config, params = weights.read(Path(args.folder, "hf"))
    params = reduced(config, params, dtype)
    rows = list(inputs(args, config.vocab_size))
    known: dict[str, Any] = {}
    if dtype == "float32":
        lengths, texts = [args.inputs] * args.batch, [args.length] * args.batch
        known["bytes"] = _read_in_a_step(config, params, args)
        known["encoding"] = products.encoding_flops(config, lengths)
        known["writing"] = products.writing_flops(config, lengths, texts, config.vocab_size)

    def repeat() -> Result:
        return {**result(args, decoding.generate(config, params, rows, args.length, args.batch)), **known}

    if dtype == "float32":
        known["equals"] = _equals(config, params, rows, repeat()["texts"])
    return repeat


def _equals(config: Any, params: Any, rows: Any, texts: list[list[int]]) -> list[dict[str, int]]:
    """For each text the places where rounding chooses the token, each with the other token."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from explainft.model.t5 import T5

    @jax.jit
    def best_two(params, row_BS, text_BT):
        before_BT = jnp.pad(text_BT, ((0, 0), (1, 0)))[:, :-1]
        logits_BTV = T5(config).apply({"params": params}, row_BS, before_BT, jnp.ones_like(text_BT))
        return jax.lax.top_k(logits_BTV[0], 2)

    found = []
    for row, text in zip(rows, texts, strict=True):
        logits_T2, tokens_T2 = map(np.asarray, best_two(params, row[None], np.array([text], np.int32)))
        near_T = logits_T2[:, 0] - logits_T2[:, 1] <= ROUNDING * np.abs(logits_T2[:, 0])
        other_T = np.where(tokens_T2[:, 0] == text, tokens_T2[:, 1], tokens_T2[:, 0])
        found.append({str(t): int(other_T[t]) for t in np.flatnonzero(near_T)})
    return found


def _read_in_a_step(config: Any, params: Any, args: argparse.Namespace) -> int:
    """The bytes that a step in float32 must read, on average: its kernels, and the keys and values so far."""
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


def memory(args: argparse.Namespace):
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    parts = [np.ones(2**27 // args.cores, np.float32) for _ in range(args.cores)]
    pool = ThreadPoolExecutor(args.cores)

    def repeat() -> Result:
        list(pool.map(np.max, parts))  # numpy lets go of the interpreter: all at once
        return {"work": sum(part.nbytes for part in parts) / 1e9}

    return repeat


def hugging_face(args: argparse.Namespace):
    import torch

    from benchmarks import peers

    model = peers.hugging_face(Path(args.folder, "hf"), args.cores)
    rows = torch.from_numpy(inputs(args, model.config.vocab_size)).long()
    mask = torch.ones_like(rows)

    def repeat() -> Result:
        with torch.inference_mode():
            written = model.generate(
                input_ids=rows, attention_mask=mask, max_new_tokens=args.length, do_sample=False, use_cache=True
            )
        return result(args, written[:, 1:].tolist())  # without the decoder's start token

    return repeat


def t5x(args: argparse.Namespace):
    import jax
    import numpy as np

    from benchmarks import peers, weights

    peers.dispatch()
    config, params = weights.read(Path(args.folder, "hf"))
    model = peers.t5x(config)
    batch = {
        "encoder_input_tokens": inputs(args, config.vocab_size),
        "decoder_input_tokens": np.zeros((args.batch, args.length), np.int32),
    }
    decode = jax.jit(lambda params, batch: model.predict_batch_with_aux(params, batch, num_decodes=1)[0])
    return lambda: result(args, np.asarray(decode(params, batch)).tolist())


def ctranslate2(args: argparse.Namespace, compute_type: str):
    import json

    import ctranslate2

    folder = Path(args.folder, "ct2")
    pieces = json.loads((folder / "shared_vocabulary.json").read_text())
    ids = {piece: i for i, piece in enumerate(pieces)}
    rows = [[pieces[i] for i in row] for row in inputs(args, len(pieces)).tolist()]
    translator = ctranslate2.Translator(
        str(folder), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=args.cores
    )

    def repeat() -> Result:
        done = translator.translate_batch(rows, beam_size=1, max_decoding_length=args.length)
        return result(args, [[ids[piece] for piece in one.hypotheses[0]] for one in done])

    return repeat


def check(results: Results) -> list[str]:
    ours = results["explainft"][0]
    mistakes = []
    for name, found in results.items():
        if name == "explainft" or name in FLOATS:
            for turn in found:
                rows = zip(turn["texts"], ours["texts"], ours["equals"], strict=True)
                differing = sum(not _same(text, our_text, equals) for text, our_text, equals in rows)
                if differing:
                    mistakes.append(f"{name} writes {differing} of {len(turn['texts'])} texts differently")
    return mistakes


def _same(text: list[int], ours: list[int], equals: dict[str, int]) -> bool:
    """Whether the texts agree as far as rounding lets them: what follows another token is another text."""
    first = next((t for t, (a, b) in enumerate(zip(text, ours, strict=True)) if a != b), None)
    return first is None or equals.get(str(first)) == text[first]


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    texts = {name: found[0]["texts"] for name, found in results.items() if "texts" in found[0]}
    found: dict[str, Any] = {"different tokens in our texts": len({i for row in texts["explainft"] for i in row})}
    for name in texts.keys() & {*FLOATS}:
        differing = sum(a != b for a, b in zip(texts[name], texts["explainft"], strict=True))
        found[f"texts of {name} in which rounding chose another token"] = differing
    for name in texts.keys() - {"explainft", *FLOATS}:
        pairs = zip(texts[name], texts["explainft"], strict=True)
        same = sum(a == b for one, other in pairs for a, b in zip(one, other, strict=True))
        found[f"tokens of {name} that are those of float32"] = same / (args.batch * args.length)
    read = results["explainft"][0]["bytes"] / 1e9
    seconds = statistics.median(turn["seconds"] for turn in results["explainft"][1:])
    found["GB that a float32 step must read"] = read
    found["GB/s that explainft's steps read at least"] = read * args.length / seconds
    encoding, writing = (results["explainft"][0][work] for work in ("encoding", "writing"))
    found |= products.facts(results, encoding + writing)
    if {products.JAX.name, MEMORY} <= results.keys():
        speed = statistics.median(turn["work"] / turn["seconds"] for turn in results[MEMORY][1:])
        steps = max(products.seconds(results, writing), read * args.length / speed)
        found[products.LEAST] = products.seconds(results, encoding) + steps
    return found


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--length", type=int, default=64)
    systems = (
        System("explainft", ours),
        System("explainft bfloat16", lambda a: ours(a, "bfloat16")),
        System("explainft int8", lambda a: ours(a, "int8")),
        System("Hugging Face", hugging_face, ("torch", "transformers")),
        System("T5X", t5x, ("t5x", "seqio"), {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}),  # its best setting
        System("CTranslate2 float32", lambda a: ctranslate2(a, "float32"), ("ctranslate2", "transformers", "torch")),
        System("CTranslate2 int8", lambda a: ctranslate2(a, "int8"), ("ctranslate2", "transformers", "torch")),
        System(MEMORY, memory, unit="GB"),
        products.JAX,
    )
    side_by_side.main(Row("token", systems, prepare, check, facts), parser)
