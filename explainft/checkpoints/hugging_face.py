"""Directories of Hugging Face's T5: the names of their tensors, reading and writing.

Covers T5 1.0, T5 1.1 and Flan-T5, which has 1.1's architecture.
"""

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from explainft import __version__
from explainft.checkpoints import tokenizer_json
from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError
from explainft.data.vocabulary import EOS_ID
from explainft.model.config import T5Config
from explainft.model.layers import RELPOS_BUCKETS, RELPOS_MAX_DISTANCE

MODEL_TYPES = ("t5", "mt5")
ACTIVATIONS = {"relu": ("relu",), "gated-gelu": ("gelu", "linear"), "gated-silu": ("silu", "linear")}
EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # one tensor, three names
OUTPUT = "lm_head.weight"
# In the files of T5 1.0, and unused: cross-attention has no position biases.
IGNORED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
SHARD_BYTES = 2**30


def tensor_names(config: T5Config) -> dict[str, tuple[str, bool]]:
    """Maps each parameter to its tensor in T5ForConditionalGeneration, and to whether that is transposed.

    Kernels are [in, out], Hugging Face's [out, in]; its relative position biases are [bucket, head].
    """
    names = {"token_embedder/embedding": (EMBEDDING[0], False)}
    for stack, layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        names[f"{stack}/{stack}_norm/scale"] = (f"{stack}.final_layer_norm.weight", False)
        positions = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        names[f"{stack}/relpos_bias/rel_embedding"] = (positions, True)
        for i in range(layers):
            names |= _layer(f"{stack}/layers_{i}", f"{stack}.block.{i}.layer", stack == "decoder", config)
    if not config.logits_via_embedding:
        names["decoder/logits_dense/kernel"] = (OUTPUT, True)
    return names


def _layer(layer: str, tensor: str, decoder: bool, config: T5Config) -> dict[str, tuple[str, bool]]:
    blocks = [("self_attention" if decoder else "attention", "SelfAttention")]
    blocks += [("encoder_decoder_attention", "EncDecAttention")] if decoder else []
    norms = ["pre_self_attention", "pre_cross_attention", "pre_mlp"] if decoder else ["pre_attention", "pre_mlp"]
    names = {
        f"{layer}/{norm}_layer_norm/scale": (f"{tensor}.{j}.layer_norm.weight", False) for j, norm in enumerate(norms)
    }
    for j, (block, tensor_block) in enumerate(blocks):
        for projection in ("query", "key", "value", "out"):
            names[f"{layer}/{block}/{projection}/kernel"] = (
                f"{tensor}.{j}.{tensor_block}.{projection[0]}.weight",
                True,
            )
    gates = len(config.mlp_activations)
    for wi in ["wi"] if gates == 1 else [f"wi_{g}" for g in range(gates)]:
        names[f"{layer}/mlp/{wi}/kernel"] = (f"{tensor}.{len(blocks)}.DenseReluDense.{wi}.weight", True)
    names[f"{layer}/mlp/wo/kernel"] = (f"{tensor}.{len(blocks)}.DenseReluDense.wo.weight", True)
    return names


def recognizes(directory: Path) -> bool:
    """Returns whether the directory holds config.json and weights of a format that `read` reads."""
    return (directory / "config.json").is_file() and bool(_weight_files(directory))


def _weight_files(directory: Path) -> list[Path]:
    """Returns the files of one format, by their index; safetensors where a directory has both."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = directory / f"{stem}.{suffix}.index.json"
        if index.is_file():
            return [directory / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        if (directory / f"{stem}.{suffix}").is_file():
            return [directory / f"{stem}.{suffix}"]
    return []


def read(directory: Path) -> Weights:
    """Reads the parameters of T5ForConditionalGeneration.

    PyTorch files are loaded weights-only, mapped into memory. Raises UserError for another model.
    """
    settings = _read_settings(directory / "config.json")
    files = _weight_files(directory)
    for file in files:
        if not file.is_file():
            raise UserError(f"{directory} lacks {file.name}, which its index names; copy the directory again")
    tensors = dict(t for file in files for t in (_safetensors(file) if file.suffix != ".bin" else _pytorch(file)))
    embedding = next((name for name in EMBEDDING if name in tensors), None)
    if embedding is None:
        raise UserError(f"{directory} has no tensor {EMBEDDING[0]!r}; give a whole T5, not its encoder")
    # transformers from 5 on always writes tie_word_embeddings=true, and shows the family by this scale.
    scaled = settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True) is not False)
    # A new T5 1.1 of transformers 5 shares its embedding with the output layer, and is marked as such.
    if not scaled and OUTPUT not in tensors and not settings.get("tie_word_embeddings"):
        raise UserError(f"{directory} has no tensor {OUTPUT!r}, which a T5 1.1 has; copy the directory again")
    output = OUTPUT if OUTPUT in tensors else embedding
    if scaled and output != embedding and not np.array_equal(tensors[output][1](), tensors[embedding][1]()):
        raise UserError(f"{directory} scales its outputs and has an {OUTPUT} of its own; neither T5 1.0 nor 1.1 does")
    config = _config(directory, settings, tied=scaled)
    renamed = {EMBEDDING[0]: embedding, OUTPUT: output}
    sources = {
        name: (renamed.get(tensor, tensor), transposed) for name, (tensor, transposed) in tensor_names(config).items()
    }
    unknown = tensors.keys() - {tensor for tensor, _ in sources.values()} - {*EMBEDDING, OUTPUT, IGNORED}
    if unknown:
        raise UserError(f"{directory} has a tensor {min(unknown)!r} that T5 does not have; give a checkpoint of T5")

    def read_parameter(name: str) -> np.ndarray:
        tensor, transposed = sources[name]
        value = tensors[tensor][1]()
        return value.T if transposed else value

    def shape(tensor: str, transposed: bool) -> tuple[int, ...]:
        found = tensors[tensor][0]
        return found[::-1] if transposed else found

    vocabulary = directory / "spiece.model"
    return Weights(
        origin=f"Hugging Face directory {directory}",
        # A missing tensor is left out: check_parameters names it.
        parameters={name: shape(*source) for name, source in sources.items() if source[0] in tensors},
        read=read_parameter,
        vocabulary=vocabulary if vocabulary.is_file() else None,
        **_tokenizer_settings(directory),
        config=config,
    )


def _read_settings(file: Path) -> dict[str, Any]:
    """Reads config.json. Raises UserError where it is not that of a T5."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise UserError(f"{file} must hold a JSON object, not {type(settings).__name__}; copy the directory again")
    kind = settings.get("model_type")
    if kind not in MODEL_TYPES:
        reason = " (relative position biases in every layer)" if kind == "umt5" else ""
        raise UserError(f"{file} has model_type={kind!r}{reason}; it must be one of {', '.join(MODEL_TYPES)}")
    return settings


def _config(directory: Path, settings: dict[str, Any], *, tied: bool) -> T5Config:
    file = directory / "config.json"
    for key, value in (("relative_attention_num_buckets", RELPOS_BUCKETS), ("layer_norm_epsilon", 1e-6)):
        if settings.get(key, value) != value:
            raise UserError(f"{file} has {key}={settings[key]}, but T5 has {value}; give a checkpoint of T5")
    feed_forward = settings.get("feed_forward_proj", "relu")
    if feed_forward not in ACTIVATIONS:
        raise UserError(f"{file} has feed_forward_proj={feed_forward!r}; it must be one of {', '.join(ACTIVATIONS)}")
    sizes = ("vocab_size", "d_model", "num_heads", "num_layers", "d_kv", "d_ff")
    if missing := [size for size in sizes if size not in settings]:
        raise UserError(f"{file} lacks {missing[0]!r}; copy the directory again")
    return T5Config(
        vocab_size=settings["vocab_size"],
        emb_dim=settings["d_model"],
        num_heads=settings["num_heads"],
        num_encoder_layers=settings["num_layers"],
        num_decoder_layers=settings.get("num_decoder_layers") or settings["num_layers"],
        head_dim=settings["d_kv"],
        mlp_dim=settings["d_ff"],
        mlp_activations=ACTIVATIONS[feed_forward],
        logits_via_embedding=tied,
        relative_attention_max_distance=settings.get("relative_attention_max_distance", RELPOS_MAX_DISTANCE),
    )


def _tokenizer_settings(directory: Path) -> dict[str, Any]:
    """Returns how many sentinels follow the tokens of spiece.model, and whether the run replaced texts.

    T5Tokenizer's default is 100 sentinels.
    """
    file = directory / "tokenizer_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    return {"extra_ids": settings.get("extra_ids", 100), "replacement": settings.get("replacement", False)}


def _safetensors(file: Path) -> Iterator[tuple[str, Any]]:
    # Opened again for each tensor: the map of a whole file counts as memory until it is closed.
    with safe_open(file, framework="numpy") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (no dict)

    def read_tensor(name: str) -> np.ndarray:
        with safe_open(file, framework="numpy") as opened:
            return opened.get_tensor(name)

    for name, shape in shapes.items():
        yield name, (shape, functools.partial(read_tensor, name))


def _pytorch(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        import torch  # pyright: ignore[reportMissingImports] only for directories without safetensors
    except ImportError as e:
        raise UserError(f"{file} is a PyTorch file; install torch, or save the checkpoint as safetensors") from e
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as e:  # what torch raises differs by release and fault
        raise UserError(
            f"cannot read {file} as weights alone ({str(e).splitlines()[0]}); save it as safetensors"
        ) from e

    def read_tensor(name: str) -> np.ndarray:
        tensor = tensors[name].contiguous()
        if tensor.dtype == torch.bfloat16:  # NumPy's bridge does not know it
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    for name, tensor in tensors.items():
        yield name, (tuple(tensor.shape), functools.partial(read_tensor, name))


def write(directory: Path, weights: Weights, dtype: str | None = None) -> None:
    """Writes the weights, settings, tokenizer and model card that T5ForConditionalGeneration.from_pretrained loads.

    At most about a gibibyte of tensors is in memory at a time. `dtype` None keeps each array's own.
    """
    config = weights.architecture()
    directory.mkdir(parents=True, exist_ok=True)
    stored = _write_weights(directory, config, weights, dtype)
    (directory / "config.json").write_text(json.dumps(_settings(config, stored), indent=2) + "\n")
    generation: dict[str, Any] = {"decoder_start_token_id": 0, "eos_token_id": EOS_ID, "pad_token_id": 0}
    if weights.meta.get("output_ids") is not None:  # the run was not trained on the logits of the others
        generation["suppress_tokens"] = sorted(set(range(config.vocab_size)) - set(weights.meta["output_ids"]))
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    if weights.vocabulary is not None:
        vocabulary = weights.tokenizer()
        shutil.copyfile(weights.vocabulary, directory / "spiece.model")
        tokenizer_json.write(directory, vocabulary, weights.extra_ids)
    (directory / "README.md").write_text(_card(config, weights))


def _write_weights(directory: Path, config: T5Config, weights: Weights, dtype: str | None) -> str:
    """Writes the shards and their index; returns the name of the stored dtype."""
    shards: list[list[str]] = [[]]
    room = SHARD_BYTES
    names = tensor_names(config)
    for name in names:
        size = 4 * int(np.prod(weights.parameters[name]))
        if shards[-1] and size > room:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(name)
        room -= size
    index: dict[str, str] = {}
    stored, total = "float32", 0
    for i, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        tensors: dict[str, np.ndarray] = {}
        for name in shard:
            tensor, transposed = names[name]
            value = weights.read(name)
            value = value if dtype is None else value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
            # safetensors writes the memory of an array, whatever its strides: a transposed view would be garbled.
            tensors[tensor] = np.ascontiguousarray(value.T if transposed else value)
            stored, total = value.dtype.name, total + value.nbytes
        save_file(tensors, directory / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        listing = {"metadata": {"total_size": total}, "weight_map": index}
        (directory / "model.safetensors.index.json").write_text(json.dumps(listing, indent=2) + "\n")
    return stored


def _settings(config: T5Config, dtype: str) -> dict[str, Any]:
    feed_forward = next((name for name, known in ACTIVATIONS.items() if known == config.mlp_activations), None)
    if feed_forward is None:
        raise UserError(f"Hugging Face's T5 does not support mlp_activations={config.mlp_activations}; use --to t5x")
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_ff": config.mlp_dim,
        "d_kv": config.head_dim,
        "d_model": config.emb_dim,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.1,
        "dtype": dtype,
        "eos_token_id": EOS_ID,
        "feed_forward_proj": feed_forward,
        "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-6,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "relative_attention_num_buckets": RELPOS_BUCKETS,
        "tie_word_embeddings": config.logits_via_embedding,
        "vocab_size": config.vocab_size,
    }


def _card(config: T5Config, weights: Weights) -> str:
    count = sum(int(np.prod(shape)) for shape in weights.parameters.values())
    family = "1.0" if config.logits_via_embedding else "1.1"
    trained = (
        f"Trained on the task `{weights.meta['task']}`" if "task" in weights.meta else "Converted from a checkpoint"
    )
    steps = "" if weights.step is None else f", {weights.step:,} steps"
    return f"""---
library_name: transformers
pipeline_tag: text2text-generation
tags: [t5, explainft]
---
# T5 that explains, then answers

{trained}{steps}. {count:,} parameters, T5 {family}: {config.num_encoder_layers} + {config.num_decoder_layers} layers
of width {config.emb_dim}, {config.num_heads} heads. Written by explainft {__version__}.

```python
from transformers import AutoTokenizer, T5ForConditionalGeneration

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = T5ForConditionalGeneration.from_pretrained(FOLDER)
inputs = tokenizer("[MAX 2 9 [MIN 4 7 ] 0 ]", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=512)[0], skip_special_tokens=True))
```

The input is a nested list problem in the bracket form; the output ends with `Final answer: N`.
"""
