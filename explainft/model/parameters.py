"""The names of parameters: their paths in T5X's tree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from explainft.model.config import T5Config
from explainft.model.t5 import T5


def parameter_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each parameter by its name, as encoder/layers_0/attention/query/kernel; computes none."""
    return {name: leaf.shape for name, leaf in named_leaves(abstract_tree(config)).items()}


def abstract_tree(config: T5Config) -> Any:
    """Returns the tree of parameters as jax.ShapeDtypeStructs without shardings."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return jax.eval_shape(T5(config).init, jax.random.key(0), tokens, tokens, tokens)["params"]


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, joined by "/"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    return {leaf_name(path): leaf for path, leaf in leaves}


def leaf_name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
