"""The inputs of explainft and the references: small models with weights from a seed, batches, gradients.

Every number comes from numpy's RandomState, whose streams are frozen for good: golden files need not hold weights.
"""

import dataclasses
import hashlib
from collections.abc import Iterator

import jax
import numpy as np

from explainft.data.vocabulary import EOS_ID
from explainft.model.config import T5Config
from explainft.model.t5 import T5

# No two sizes are equal, nor is heads * head_dim emb_dim: an exchanged or a missing transpose fails by its shape. The
# encoder is the deeper stack, because transformers sizes the cache of `generate` by the encoder's layers.
V1_0 = T5Config(
    vocab_size=48, emb_dim=20, num_heads=3, num_encoder_layers=3, num_decoder_layers=2, head_dim=8, mlp_dim=28
)
V1_1 = dataclasses.replace(V1_0, mlp_activations=("gelu", "linear"), logits_via_embedding=False)
FAMILIES = {"1.0": V1_0, "1.1": V1_1}

# Adafactor factors from 128 on, and by size: the larger axis of a kernel is once its input and once its output, and in
# `square` (as in T5-small's attention) neither.
FACTORED = {
    "square": T5Config(256, 128, 8, 1, 1, head_dim=16, mlp_dim=192),
    "narrow_mlp": dataclasses.replace(V1_1, vocab_size=256, emb_dim=192, num_heads=8, head_dim=16, mlp_dim=128),
}

ADAFACTOR_RATE = 0.5  # so large that an update is as visible as the parameter itself
RESTORED_STEP = 1_000_000

DECODE_LENGTH = 140
FULL_LOSS = {"z_loss": 1e-4, "label_smoothing": 0.1, "normalizing_factor": "NUM_REAL_TARGET_TOKENS"}

# What of all this the golden files hold: some logits, some prompts, the fifth and the last update.
GOLDEN_STRIDE, GOLDEN_PROMPTS, GOLDEN_UPDATES = 11, 24, (4, 7)

INPUT_LENGTHS, TARGET_LENGTHS = (200, 1, 64, 137), (150, 60, 1, 133)  # beyond 128 all distances share a bucket

Flat = dict[str, np.ndarray]


def flatten(tree) -> Flat:
    """Returns the leaves of a parameter tree by path, "encoder/layers_0/mlp/wi/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def shapes(config: T5Config):
    """Returns the parameter tree with a shape at each leaf."""
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    return jax.eval_shape(T5(config).init, jax.random.key(0), tokens, tokens, tokens)["params"]


def random_params(config: T5Config, seed: int = 0):
    """Returns asymmetric weights: attention is not uniform, and no norm's scale is 1."""
    random = np.random.RandomState(seed)

    def draw(path, leaf):
        *_, module, kind = (key.key for key in path)
        x = random.standard_normal(leaf.shape).round(4)  # the last digits hang on the machine's logarithm
        if kind == "scale":
            x = 1 + 0.2 * x
        elif kind == "kernel":
            x *= (2 / np.sqrt(config.head_dim) if module == "query" else 1) / np.sqrt(leaf.shape[0])
        return x.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(config))


def digest(*trees) -> str:
    """Returns a fingerprint of all bytes of these arrays."""
    leaves = [leaf for tree in trees for leaf in flatten(tree).values()]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


def digests() -> dict[str, str]:
    """Returns fingerprints of the weights and inputs of all cases."""
    every = {**FAMILIES, **FACTORED}
    return {name: digest(random_params(config), packed(config)) for name, config in every.items()} | {
        f"{name} decoding": digest(decoding_params(config), prompts(config, GOLDEN_PROMPTS))
        for name, config in FAMILIES.items()
    }


def summary(flat: Flat, count: int = 24) -> np.ndarray:
    """[P, count + 2]: of each array, in the order of paths, elements spread over it, its root mean square and maximum.

    The maximum, of absolute values, makes a row as large as its array: differences of both have the same scale.
    """
    rows = []
    for _, x in sorted(flat.items()):
        picked = x.reshape(-1)[np.arange(count) * x.size // count]
        rows.append(np.append(picked, [np.sqrt(np.mean(np.square(x, dtype=np.float64))), np.abs(x).max()]))
    return np.stack(rows).astype(np.float32)


def random_ids(config: T5Config, lengths, seed: int) -> list[np.ndarray]:
    """Returns rows of token ids of these lengths, each with EOS at its end."""
    random = np.random.RandomState(seed)
    return [np.append(random.randint(2, config.vocab_size, n - 1), EOS_ID).astype(np.int32) for n in lengths]


def shifted(targets: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], targets[:-1]]).astype(np.int32)


def examples(config: T5Config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (inputs, targets) of the batches below."""
    return list(zip(random_ids(config, INPUT_LENGTHS, 1), random_ids(config, TARGET_LENGTHS, 2), strict=True))


def padded(config: T5Config) -> dict[str, np.ndarray]:
    """One example in a row, with padding at the end of even the longest."""
    B, S, T = len(INPUT_LENGTHS), max(INPUT_LENGTHS) + 8, max(TARGET_LENGTHS) + 8
    batch = {
        "encoder_input_tokens": np.zeros((B, S), np.int32),
        "decoder_input_tokens": np.zeros((B, T), np.int32),
        "decoder_target_tokens": np.zeros((B, T), np.int32),
    }
    for row, (inputs, targets) in enumerate(examples(config)):
        batch["encoder_input_tokens"][row, : len(inputs)] = inputs
        batch["decoder_input_tokens"][row, : len(targets)] = shifted(targets)
        batch["decoder_target_tokens"][row, : len(targets)] = targets
    return batch


def packed(config: T5Config) -> dict[str, np.ndarray]:
    """The same examples in two rows of two, with segment ids and positions."""
    S, T = max(INPUT_LENGTHS) + 8, sum(TARGET_LENGTHS[:2]) + 8
    names = {"encoder": ("input_tokens",), "decoder": ("input_tokens", "target_tokens")}
    batch = {
        f"{stack}_{name}": np.zeros((2, S if stack == "encoder" else T), np.int32)
        for stack in names
        for name in (*names[stack], "segment_ids", "positions")
    }
    for i, (inputs, targets) in enumerate(examples(config)):
        row, segment = divmod(i, 2)
        values = {"encoder": (inputs,), "decoder": (shifted(targets), targets)}
        for stack, lengths in (("encoder", INPUT_LENGTHS), ("decoder", TARGET_LENGTHS)):
            start = lengths[i - 1] if segment else 0
            where = (row, slice(start, start + lengths[i]))
            for name, ids in zip(names[stack], values[stack], strict=True):
                batch[f"{stack}_{name}"][where] = ids
            batch[f"{stack}_segment_ids"][where] = segment + 1
            batch[f"{stack}_positions"][where] = np.arange(lengths[i])
    return batch


def real(batch: dict[str, np.ndarray], logits: np.ndarray) -> np.ndarray:
    """Returns the logits [N, V] where there is a target, in the same order from `padded` and from `packed`."""
    return logits[batch["decoder_target_tokens"] > 0]


def decoding_params(config: T5Config):
    """Returns weights with which greedy decoding gives many outputs of many lengths."""

    def louder(path, x):
        # Where logits are tied to the embedding, what a layer adds must outweigh the last token, or that is repeated.
        stack, module = path[0].key, path[-2].key
        return x * np.float32(6) if stack == "decoder" and module in ("out", "wo") else x

    seed, boost = (0, 2.5) if config.logits_via_embedding else (2, 1.0)
    params = jax.tree_util.tree_map_with_path(louder, random_params(config, seed))
    eos = (
        params["token_embedder"]["embedding"][EOS_ID]
        if config.logits_via_embedding
        else params["decoder"]["logits_dense"]["kernel"][:, EOS_ID]
    )
    eos *= np.float32(boost)
    return params


def prompts(config: T5Config, count: int) -> list[np.ndarray]:
    """Returns inputs of all lengths from 1 to 150."""
    lengths = np.random.RandomState(3).randint(1, 151, count)
    lengths[:2] = 1, 150
    return random_ids(config, lengths, 6)


def adafactor_course(optimizer, params) -> Iterator[tuple[Flat, dict[str, Flat]]]:
    """Returns the results of `optimizer.update` for five steps, and for three more as if resumed at step 1,000,000.

    There the second moments move by 16 millionths of a squared gradient: the gradients grow, so that this is seen.
    """
    random = np.random.RandomState(9)
    for k in range(8):
        if k == 5:
            optimizer.go_to(RESTORED_STEP)
        loudness = 100 if k >= 5 else 1

        def draw(x, loudness=loudness):
            return (random.standard_normal(x.shape) * loudness * 10.0 ** random.uniform(-3, 1)).astype(np.float32)

        gradients = jax.tree.map(draw, params)
        gradients["token_embedder"]["embedding"][7] = 0  # a token that no batch holds
        yield optimizer.update(gradients)
