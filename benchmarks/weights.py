"""The weights that all systems of a row share: made once, as a Hugging Face folder that each of them reads."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from explainft.checkpoints import checkpoint, convert, hugging_face
from explainft.checkpoints.weights import Weights
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation import infer
from explainft.model.parameters import named_leaves, parameter_shapes
from explainft.model.t5 import T5Config
from explainft.training import optimizers
from explainft.training.train_state import init_state

SIZES = {
    "large": T5Config(32_128, 1024, 16, 24, 24, 64, 4096),
    "base": T5Config(32_128, 768, 12, 12, 12, 64, 3072),
    "small": T5Config(32_128, 512, 8, 6, 6, 64, 2048),
    "tiny": T5Config(512, 128, 4, 3, 3, 32, 256),  # to see in seconds that a benchmark runs
}


def write_random(folder: Path, size: str, seed: int = 0) -> None:
    """A network whose greedy text changes from token to token and never ends, so that all write the same number."""
    config = SIZES[size]
    state = init_state(config, optimizers.adafactor(lambda _: 0.0), seed)
    flat = {name: np.array(x) for name, x in named_leaves(state.params).items()}
    # A fresh T5 repeats its last token. This one attends sharply, by content and by distance, and its tokens' own
    # embeddings are a small part of what its layers see. The last norm gives the logits their unit variance back.
    for name, value in flat.items():
        value *= 8.0 if "query" in name else 10.0 if "rel_embedding" in name else 1.0
    flat["token_embedder/embedding"] *= 0.05
    flat["decoder/decoder_norm/scale"] /= 0.05
    flat["token_embedder/embedding"][EOS_ID] = 0.0  # its logit is zero, and the largest of all the others is above
    _write(folder, config, flat)


def write_shipped(folder: Path, size: str) -> None:
    """The trained network that ships with the package inside one of this size: real answers for the larger one's work.

    Everything beside it is zero; layers of zeros pass on what they get. The vocabulary is the compact one.
    """
    shipped = checkpoint.weights(infer.PRETRAINED)
    small = shipped.architecture()
    large = SIZES[size]
    config = T5Config(
        small.vocab_size, large.emb_dim, large.num_heads, *(large.num_encoder_layers, large.num_decoder_layers),
        *(large.head_dim, large.mlp_dim),
    )  # fmt: skip
    # The mean of squares is now over more dimensions; the last norm makes up for the logits' 1/sqrt(D) too.
    narrower = np.sqrt(small.emb_dim / config.emb_dim)
    flat = {}
    for name, shape in parameter_shapes(config).items():
        value = np.ones(shape, np.float32) if name.endswith("scale") else np.zeros(shape, np.float32)
        if name in shipped.parameters:
            inner = shipped.read(name)
            if name.endswith("scale"):
                inner = inner if name == "decoder/decoder_norm/scale" else inner * narrower
            elif name.endswith(("query/kernel", "key/kernel", "value/kernel")):
                inner = _spread_heads(inner, small, config)
            elif name.endswith("out/kernel"):
                inner = _spread_heads(inner.T, small, config).T
            value[tuple(slice(n) for n in inner.shape)] = inner
        flat[name] = value
    _write(folder, config, flat)


def _spread_heads(kernel: np.ndarray, small: T5Config, large: T5Config) -> np.ndarray:
    """Columns [in, H * K] where the larger network has those of its first heads."""
    heads = kernel.reshape(-1, small.num_heads, small.head_dim)
    return np.pad(heads, ((0, 0), (0, 0), (0, large.head_dim - small.head_dim))).reshape(len(kernel), -1)


def _write(folder: Path, config: T5Config, flat: dict[str, np.ndarray]) -> None:
    shapes = {name: x.shape for name, x in flat.items()}
    hugging_face.write(
        folder, Weights("the benchmark", shapes, flat.__getitem__, vocabulary=Path(COMPACT), config=config)
    )


def read(folder: Path) -> tuple[T5Config, Any]:
    """The network and its parameters, on the device."""
    weights = convert.open_weights(str(folder))
    return weights.architecture(), jax.block_until_ready(weights.tree())
