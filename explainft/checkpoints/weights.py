"""A checkpoint of any format as named arrays that are read one at a time.

A parameter's name is its path in the network's tree, which is T5X's: "encoder/layers_0/attention/query/kernel".
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from explainft.core.errors import UserError
from explainft.data.vocabulary import Vocabulary
from explainft.model.config import T5Config
from explainft.model.parameters import leaf_name, parameter_shapes

SLOTS = ("v_row", "v_col", "v")  # of Adafactor, for each parameter; those it does not use have the shape (1,)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a checkpoint holds. `read` gives a parameter as it is stored, without a copy of any other."""

    origin: str  # what it is and where, for messages
    parameters: Mapping[str, tuple[int, ...]]  # shapes
    read: Callable[[str], np.ndarray]
    step: int | None = None  # None: this format does not tell
    read_slot: Callable[[str, str], np.ndarray] | None = None  # (parameter, slot); None: no Adafactor slots
    vocabulary: Path | None = None  # the SentencePiece model, where the checkpoint brings it
    extra_ids: int = 0  # sentinels that come after it
    config: T5Config | None = None  # None: to be told from the shapes
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of a run: see metadata.describe

    def architecture(self) -> T5Config:
        """The network of these parameters."""
        return self.config or architecture(self.parameters, self.origin)

    def tokenizer(self) -> Vocabulary:
        """The vocabulary that the checkpoint brings. Raises UserError where it brings none."""
        if self.vocabulary is None:
            raise UserError(f"{self.origin} brings no vocabulary; give the folder of a run of explainft")
        return Vocabulary(self.vocabulary, self.extra_ids)

    def tree(self) -> dict[str, Any]:
        """All parameters in float32 as the tree of the network, on this process's first device."""
        check_network(self, self.architecture())
        flat = {name: jax.numpy.asarray(self.read(name).astype(np.float32)) for name in self.parameters}
        return traverse_util.unflatten_dict(flat, sep="/")


def architecture(shapes: Mapping[str, tuple[int, ...]], origin: str) -> T5Config:
    """The sizes of a T5 from the shapes of its parameters. Two gates are taken for 1.1's gelu: shapes do not tell."""
    try:
        V, D = shapes["token_embedder/embedding"]
        H = shapes["encoder/relpos_bias/rel_embedding"][0]
        HK = shapes["encoder/layers_0/attention/query/kernel"][1]
        gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
        F = shapes["encoder/layers_0/mlp/wo/kernel"][0]
    except KeyError as e:
        raise UserError(
            f"{origin} has no parameter {e}; expected is a T5 with the parameters of T5X's examples/t5"
        ) from e
    return T5Config(
        vocab_size=V,
        emb_dim=D,
        num_heads=H,
        num_encoder_layers=_layers(shapes, "encoder"),
        num_decoder_layers=_layers(shapes, "decoder"),
        head_dim=HK // H,
        mlp_dim=F,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="decoder/logits_dense/kernel" not in shapes,
    )


def _layers(names: Iterable[str], stack: str) -> int:
    found = {match[1] for name in names if (match := re.match(rf"{stack}/layers_(\d+)/", name))}
    return len(found)


def check_network(weights: Weights, network: T5Config) -> None:
    """Refuses parameters that are not those of the network, with the first that differs and both shapes."""
    wanted = parameter_shapes(network)
    for name, shape in wanted.items():
        found = weights.parameters.get(name)
        if found is None:
            raise UserError(f"{weights.origin} has no parameter {name!r}, which the network has with shape {shape}")
        if found != shape:
            raise UserError(
                f"{weights.origin}: parameter {name!r} has shape {found}, the network's is {shape}; "
                "choose the recipe of the checkpoint's size"
            )
    for name in weights.parameters:
        if name not in wanted:
            raise UserError(
                f"{weights.origin} has a parameter {name!r} that the network lacks; choose the recipe of its size"
            )
    untold = ["relative_attention_max_distance", "encoder_local_radius"]  # by shapes
    if weights.config is not None:
        untold += ["mlp_activations"]
    for field in untold:
        theirs, ours = getattr(weights.architecture(), field), getattr(network, field)
        if theirs != ours:
            raise UserError(
                f"{weights.origin} has {field}={theirs}, the network {ours}; give --gin.{field.upper()}={theirs}"
            )


def parameters_like(weights: Weights, like: Any) -> Any:
    """The parameters in float32 as a tree like the given one, each on the device or devices that `like` has it on.

    `like` may hold mere shapes with shardings. One parameter at a time passes through the host's memory.
    """

    def place(path: jax.tree_util.KeyPath, leaf: Any) -> jax.Array:
        return put(weights.read(leaf_name(path)).astype(np.float32), leaf)

    return jax.tree_util.tree_map_with_path(place, like)


def slots_like(weights: Weights, opt_state: Any, step: int) -> Any:
    """A fresh optimizer state at that step: its schedule goes on from there, Adafactor's slots are the checkpoint's.

    Slots that the checkpoint lacks stay as they are, with the count of steps that they have seen.
    """

    def restore(state: Any) -> Any:  # of one transformation in the chain
        if isinstance(state, optax.ScaleByScheduleState):
            return state._replace(count=put(np.int32(step), state.count))
        if isinstance(state, optax.FactoredState) and weights.read_slot is not None:
            slots = {slot: _slot_tree(weights, slot, getattr(state, slot)) for slot in SLOTS}
            # The steps that the slots have seen, wherever this run begins to count.
            seen = step if weights.step is None else weights.step
            return state._replace(count=put(np.int32(seen), state.count), **slots)
        return state

    return jax.tree.map(restore, opt_state, is_leaf=_is_transformation)


def _slot_tree(weights: Weights, slot: str, like: Any) -> Any:
    def place(path: jax.tree_util.KeyPath, leaf: Any) -> jax.Array:
        assert weights.read_slot is not None
        value = weights.read_slot(leaf_name(path), slot)
        if value.shape != leaf.shape:
            raise UserError(
                f"{weights.origin}: Adafactor's {slot} of {leaf_name(path)!r} has shape {value.shape}, here it is "
                f"{leaf.shape}; convert the checkpoint to a Hugging Face folder to leave its slots behind"
            )
        return put(value, leaf)

    return jax.tree_util.tree_map_with_path(place, like)


def put(value: Any, like: Any) -> jax.Array:
    """A value that every host has, placed as `like` is: of a split array each device gets its part."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def _is_transformation(state: Any) -> bool:
    return isinstance(state, optax.ScaleByScheduleState | optax.FactoredState)


def has_adafactor(opt_state: Any) -> bool:
    transformations = jax.tree.leaves(opt_state, is_leaf=_is_transformation)
    return any(isinstance(state, optax.FactoredState) for state in transformations)
