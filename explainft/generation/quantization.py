"""Parameters for decoding: in lower precision, or with a smaller output vocabulary, on request.

Each step of decoding multiplies a few rows by every kernel, so on a CPU its time is that of reading the kernels. There
they are stored transposed, as `kernel_FD`: the weights of one output are contiguous, and XLA need not lay out the right
operand of a matmul at each call, as it otherwise does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from explainft.core.errors import UserError
from explainft.data.token_cache import TokenCache, target_token_ids
from explainft.model.config import T5Config
from explainft.model.t5 import output_columns, output_parameters
from explainft.parallel import sharding

DTYPES = ("float32", "bfloat16", "int8")
OUTPUT_VOCABULARIES = ("all", "task")


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
    """`dtype` of the kernels; `output_vocabulary`: "all" token ids, or those that the "task"'s targets hold."""

    dtype: str = "float32"
    output_vocabulary: str = "all"

    def __post_init__(self):
        for macro, value, known in (
            ("DECODE_DTYPE", self.dtype, DTYPES),
            ("OUTPUT_VOCABULARY", self.output_vocabulary, OUTPUT_VOCABULARIES),
        ):
            if value not in known:
                raise UserError(f"{macro}={value!r} must be one of {', '.join(known)}")

    def parameters_for(self, config: T5Config, params: Any, cache: TokenCache, meta: Mapping[str, Any]) -> Any:
        """Returns the parameters for decoding a task.

        A run that was trained on some token ids alone, as the `meta` of its checkpoint says, never writes others.
        """
        output_ids = meta.get("output_ids")
        if self.output_vocabulary == "task":
            of_task = target_token_ids(cache)
            output_ids = of_task if output_ids is None else np.intersect1d(of_task, output_ids)
        return decode_parameters(config, params, self.dtype, output_ids)


def decode_parameters(
    config: T5Config, params: Any, dtype: str = "float32", output_ids: Sequence[int] | np.ndarray | None = None
) -> Any:
    """Returns a copy of `params` for decoding, with kernels of `dtype`; embedding and norms are unchanged.

    "bfloat16": bfloat16 matmuls with float32 accumulation. "int8": kernels quantized per output to 255 levels, hidden
    states per row to 255 levels. `output_ids`: the only token ids that can be decoded, EOS among them, with unchanged
    logits (None: all). With the defaults, on an accelerator, all parameters have the activations' dtype.
    """
    unchanged = dtype == "float32" and output_ids is None
    if unchanged and not sharding.on_one_cpu(params):
        # Each use would cast them: in the loop over the tokens a GPU would cast all of them at each step.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, config.dtype), params)
    flat: dict[Any, Any] = traverse_util.flatten_dict(params)
    output = {}
    if not unchanged:  # else a tied output layer reads the embedding, whose rows are contiguous
        flat.pop(("decoder", "logits_dense", "kernel"), None)
        ids = np.arange(config.vocab_size) if output_ids is None else np.asarray(output_ids)
        output = _quantize(output_columns(config, output_parameters(config, params), ids)["output"]["kernel"], dtype)
    if output_ids is not None:
        output["token_ids"] = jnp.asarray(output_ids, jnp.int32)
    prepared = {("output", name): part for name, part in output.items()}
    for path, leaf in flat.items():
        if path[-1] == "kernel":
            prepared |= {(*path[:-1], name): part for name, part in _quantize(leaf, dtype).items()}
        else:
            prepared[path] = leaf
    return traverse_util.unflatten_dict(prepared)


def _quantize(kernel_DF: jax.Array, dtype: str) -> dict[str, jax.Array]:
    kernel_FD = jnp.asarray(kernel_DF).T
    if dtype == "int8":
        scale_F = jnp.maximum(jnp.max(jnp.abs(kernel_FD), axis=1), np.finfo(np.float32).tiny) / 127.0
        return {"kernel_FD": jnp.round(kernel_FD / scale_F[:, None]).astype(jnp.int8), "scale_F": scale_F}
    return {"kernel_FD": kernel_FD.astype(dtype)}
