"""A stack of equal layers: how its modules are built from the configs, and how it is applied, as a loop or a scan."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from explainft.model.config import T5Config
from explainft.model.execution import REMAT_POLICIES, ExecutionConfig
from explainft.model.layers import MLP, Attention, RelativePositionBiases

NEG_INF = -1e10  # what T5X adds to a masked score: exp() of it is zero, and a row of them alone stays finite


def make_attention(config: T5Config, execution: ExecutionConfig, **module: Any) -> Attention:
    sizes = (config.emb_dim, config.num_heads, config.head_dim, config.dropout_rate)
    return Attention(*sizes, config.dtype, execution.matmul_precision, execution.attention_kernel, **module)


def make_position_biases(config: T5Config, *, bidirectional: bool) -> RelativePositionBiases:
    return RelativePositionBiases(config.num_heads, bidirectional, config.relative_attention_max_distance, config.dtype)


def make_mlp(config: T5Config, execution: ExecutionConfig, **module: Any) -> MLP:
    sizes = (config.emb_dim, config.mlp_dim, config.mlp_activations, config.dropout_rate)
    return MLP(*sizes, config.dtype, execution.matmul_precision, **module)


def apply_layers(
    stack: nn.Module,
    layers: Sequence[nn.Module],
    x_BLD: jax.Array,
    arguments: tuple[jax.Array, ...],
    deterministic: bool,
) -> jax.Array:
    """Applies the layers of a stack, which differ in their parameters alone, each with the same further arguments.

    Each layer folds its index into the dropout key, so that a loop and a scan sample the same masks.
    """
    config: T5Config = stack.config  # pyright: ignore[reportAttributeAccessIssue]
    execution: ExecutionConfig = stack.execution  # pyright: ignore[reportAttributeAccessIssue]
    if stack.is_initializing():
        for layer in layers:
            x_BLD = layer(x_BLD, *arguments, deterministic)  # pyright: ignore[reportCallIssue]
        return x_BLD
    dropout = not deterministic and config.dropout_rate > 0
    key = stack.make_rng("dropout") if dropout else jax.random.key(0)
    layer = type(layers[0])(config, execution, parent=None)  # pyright: ignore[reportCallIssue]

    def apply(x_BLD: jax.Array, params: Any, i: jax.typing.ArrayLike) -> jax.Array:
        rngs = {"dropout": jax.random.fold_in(key, i)} if dropout else None
        y_BLD = layer.apply({"params": params}, x_BLD, *arguments, deterministic, rngs=rngs)
        assert isinstance(y_BLD, jax.Array)
        return split_over_data(y_BLD)

    if execution.remat_policy != "none":
        # Without prevent_cse the compiler may merge the rematerialized values with the first ones. A scan keeps them
        # apart anyway.
        policy = REMAT_POLICIES[execution.remat_policy]
        apply = jax.checkpoint(apply, policy=policy, prevent_cse=not execution.scan_layers)
    params = [layer.variables["params"] for layer in layers]
    if not execution.scan_layers:
        for i, layer_params in enumerate(params):
            x_BLD = apply(x_BLD, layer_params, i)
        return x_BLD

    def stack_leaves(path: jax.tree_util.KeyPath, *leaves: jax.Array) -> jax.Array:
        # In the dtype of the matmuls: the stack is a copy, and may as well be the smaller one. Kernels of
        # quantization.py keep theirs.
        trained = path[-1] in (jax.tree_util.DictKey("kernel"), jax.tree_util.DictKey("scale"))
        return jnp.stack([leaf.astype(config.dtype) for leaf in leaves] if trained else leaves)

    stacked = jax.tree_util.tree_map_with_path(stack_leaves, *params)
    indices = jnp.arange(len(params))
    return jax.lax.scan(lambda x, layer: (apply(x, *layer), None), x_BLD, (stacked, indices))[0]


def split_over_data(x: jax.Array) -> jax.Array:
    """Splits the rows of a batch over the mesh axis `data`, where jax.set_mesh has set a mesh that has it."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.lax.with_sharding_constraint(x, jax.P("data")) if "data" in mesh.axis_names else x


def mask_bias(mask_BTS: jax.Array, dtype: str) -> jax.Array:
    """Returns an additive bias [B, 1, T, S]: 0 where the mask holds, NEG_INF elsewhere."""
    return jnp.where(mask_BTS, 0.0, NEG_INF).astype(dtype)[:, None]
