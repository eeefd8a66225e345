"""Parameters for decoding, with fewer bits or fewer output pieces where that is asked for.

Each step of decoding multiplies a few rows by every kernel, so on a CPU its time is that of reading the kernels. There
they stand transposed, as `kernel_FD`: the numbers that make one output lie side by side, and XLA, which lays out a
product's right operand anew each time, need not.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from explainft.core.errors import UserError
from explainft.data.token_cache import TokenCache, target_pieces
from explainft.model.t5 import T5Config, columns, output_parameters
from explainft.parallel import sharding

DTYPES = ("float32", "bfloat16", "int8")
PIECES = ("all", "task")


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What decoding may leave out: `dtype` of the kernels, and of the output pieces "all" or those of the "task"."""

    dtype: str = "float32"
    pieces: str = "all"

    def __post_init__(self):
        for macro, value, known in (("DECODE_DTYPE", self.dtype, DTYPES), ("OUTPUT_VOCABULARY", self.pieces, PIECES)):
            if value not in known:
                raise UserError(f"{macro}={value!r} must be one of {', '.join(known)}")

    def of(self, config: T5Config, params: Any, cache: TokenCache, meta: Mapping[str, Any]) -> Any:
        """The parameters for decoding a task, whose pieces are those of its right texts.

        Of a run that was trained on some pieces alone, as the `meta` of its checkpoint says, never any others.
        """
        pieces = meta.get("pieces")
        if self.pieces == "task":
            of_task = target_pieces(cache)
            pieces = of_task if pieces is None else np.intersect1d(of_task, pieces)
        return reduced(config, params, self.dtype, pieces)


FULL = Reduction()


def reduced(
    config: T5Config, params: Any, dtype: str = "float32", pieces: Sequence[int] | np.ndarray | None = None
) -> Any:
    """`params` for decoding, with kernels of `dtype`, a copy of them; embedding and norms stay as they are.

    "bfloat16": products of bfloat16 numbers, summed up in float32. "int8": kernels rounded to 255 levels an output, and
    the states to 255 levels a row when they meet them. `pieces`: the only token ids that can be written, EOS among
    them, with the same logits as ever (None: all). With none of both, on an accelerator, all have the activations'
    type.
    """
    whole = dtype == "float32" and pieces is None
    if whole and not sharding.on_one_cpu(params):
        # What each use would make of them: in the loop over the tokens a GPU would round all of them at each step.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, config.dtype), params)
    flat: dict[Any, Any] = traverse_util.flatten_dict(params)
    output = {}
    if not whole:  # else a tied output layer reads the embedding, whose rows lie as they should
        flat.pop(("decoder", "logits_dense", "kernel"), None)
        written = np.arange(config.vocab_size) if pieces is None else np.asarray(pieces)
        output = _rounded(columns(config, output_parameters(config, params), written)["output"]["kernel"], dtype)
    if pieces is not None:
        output["pieces"] = jnp.asarray(pieces, jnp.int32)
    found = {("output", name): part for name, part in output.items()}
    for path, leaf in flat.items():
        if path[-1] == "kernel":
            found |= {(*path[:-1], name): part for name, part in _rounded(leaf, dtype).items()}
        else:
            found[path] = leaf
    return traverse_util.unflatten_dict(found)


def _rounded(kernel_DF: jax.Array, dtype: str) -> dict[str, jax.Array]:
    kernel_FD = jnp.asarray(kernel_DF).T
    if dtype == "int8":
        scale_F = jnp.maximum(jnp.max(jnp.abs(kernel_FD), axis=1), np.finfo(np.float32).tiny) / 127.0
        return {"kernel_FD": jnp.round(kernel_FD / scale_F[:, None]).astype(jnp.int8), "scale_F": scale_F}
    return {"kernel_FD": kernel_FD.astype(dtype)}
