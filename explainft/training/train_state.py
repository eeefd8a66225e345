"""The state that a train step changes: step, parameters, optimizer slots."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from explainft.model.config import T5Config
from explainft.model.t5 import T5
from explainft.parallel import sharding


@flax.struct.dataclass
class TrainState:
    """Contains what a train step changes; `step` is an int32 scalar, `params` has T5X's tree."""

    step: jax.Array
    params: Any
    opt_state: Any


def init_state(config: T5Config, tx: optax.GradientTransformation, seed: int) -> TrainState:
    """Returns fresh parameters from the seed with fresh optimizer slots, at step 0."""
    tokens = jnp.ones((1, 1), jnp.int32)
    params = T5(config).init(jax.random.key(seed), tokens, tokens, tokens)["params"]
    return TrainState(jnp.int32(0), params, tx.init(params))


def abstract_state(
    config: T5Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh, fsdp: bool = False
) -> TrainState:
    """Returns the shapes, dtypes and shardings of a state, to restore one without computing another first."""
    shapes = jax.eval_shape(functools.partial(init_state, config, tx, 0))
    return sharding.with_shardings(shapes, mesh, fsdp, shapes.params)
