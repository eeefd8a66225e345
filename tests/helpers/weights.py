"""Random weights in the shape of a checkpoint, for the tests of formats."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from explainft.checkpoints import t5x
from explainft.checkpoints.weights import SLOTS, Weights
from explainft.model.config import T5Config
from explainft.model.parameters import parameter_shapes

SMALL = T5Config(
    vocab_size=160, emb_dim=128, num_heads=4, num_encoder_layers=1, num_decoder_layers=2, head_dim=32, mlp_dim=192
)
FAMILIES = {
    "1.0": SMALL,
    "1.1": dataclasses.replace(SMALL, mlp_activations=("gelu", "linear"), logits_via_embedding=False),
}


def random_weights(config, *, slots=False, step=7):
    """Returns random parameters and, with `slots`, random slots of Adafactor."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}
    random_slots = {
        (name, slot): rng.random(t5x.fresh_slot(value.shape, slot).shape).astype(np.float32)
        for name, value in values.items()
        for slot in SLOTS
    }
    return Weights(
        origin="random",
        parameters=parameter_shapes(config),
        read=values.__getitem__,
        step=step,
        read_slot=(lambda name, slot: random_slots[name, slot]) if slots else None,
        config=config,
    )


def assert_same_weights(found, wanted, *, slots=False):
    assert found.parameters == dict(wanted.parameters)
    for name in wanted.parameters:
        np.testing.assert_array_equal(found.read(name), wanted.read(name), err_msg=name)
        for slot in SLOTS if slots else ():
            np.testing.assert_array_equal(found.read_slot(name, slot), wanted.read_slot(name, slot), err_msg=name)


def zero_parameters(config):
    zeros = {name: jnp.zeros(shape) for name, shape in parameter_shapes(config).items()}
    return traverse_util.unflatten_dict(zeros, sep="/")
