"""The names of parameters: their paths in T5X's tree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from explainft.model.t5 import T5, T5Config


def parameter_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by its path in the tree, "encoder/layers_0/attention/query/kernel"; computes none."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    abstract = jax.eval_shape(T5(config).init, jax.random.key(0), tokens, tokens, tokens)["params"]
    leaves, _ = jax.tree_util.tree_flatten_with_path(abstract)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of a tree by their path, joined by "/"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    return {leaf_name(path): leaf for path, leaf in leaves}


def leaf_name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
