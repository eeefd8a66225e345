"""The weights that all contenders of a row share, written once as a Hugging Face directory."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from explainft.checkpoints import convert, hugging_face, run_checkpoint
from explainft.checkpoints.weights import Weights
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation import infer
from explainft.model.config import T5Config
from explainft.model.parameters import named_leaves, parameter_shapes
from explainft.training import optimizers
from explainft.training.train_state import init_state

SIZES = {
    "large": T5Config(32_128, 1024, 16, 24, 24, 64, 4096),
    "base": T5Config(32_128, 768, 12, 12, 12, 64, 3072),
    "small": T5Config(32_128, 512, 8, 6, 6, 64, 2048),
    "tiny": T5Config(512, 128, 4, 3, 3, 32, 256),  # a smoke test in seconds
}


def write_random(directory: Path, size: str, seed: int = 0) -> None:
    """Writes random weights whose greedy output changes from token to token and never ends."""
    config = SIZES[size]
    state = init_state(config, optimizers.adafactor(lambda _: 0.0), seed)
    flat = {name: np.array(x) for name, x in named_leaves(state.params).items()}
    # A freshly initialized T5 repeats its last token. Sharp attention, by content and by distance, and small token
    # embeddings prevent that. The last norm restores the logits' unit variance.
    for name, value in flat.items():
        value *= 8.0 if "query" in name else 10.0 if "rel_embedding" in name else 1.0
    flat["token_embedder/embedding"] *= 0.05
    flat["decoder/decoder_norm/scale"] /= 0.05
    flat["token_embedder/embedding"][EOS_ID] = 0.0  # its logit is 0, below the maximum of the others
    _write(directory, config, flat)


def write_shipped(directory: Path, size: str) -> None:
    """Writes the shipped weights embedded in a model of this size: real outputs at the larger model's cost.

    All other weights are zero, and layers of zeros pass on their input. The vocabulary is the compact one.
    """
    shipped = run_checkpoint.open_run(infer.PRETRAINED)
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
    _write(directory, config, flat)


def _spread_heads(kernel: np.ndarray, small: T5Config, large: T5Config) -> np.ndarray:
    """Returns the columns [in, H * K] at the positions of the larger model's first heads."""
    heads = kernel.reshape(-1, small.num_heads, small.head_dim)
    return np.pad(heads, ((0, 0), (0, 0), (0, large.head_dim - small.head_dim))).reshape(len(kernel), -1)


def _write(directory: Path, config: T5Config, flat: dict[str, np.ndarray]) -> None:
    shapes = {name: x.shape for name, x in flat.items()}
    hugging_face.write(
        directory, Weights("the benchmark", shapes, flat.__getitem__, vocabulary=Path(COMPACT), config=config)
    )


def read(directory: Path) -> tuple[T5Config, Any]:
    """Returns the config and the parameters on the device."""
    weights = convert.open_weights(str(directory))
    return weights.architecture(), jax.block_until_ready(weights.tree())
