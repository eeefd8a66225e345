"""A checkpoint of any format as named arrays, read one at a time.

The name of a parameter is its path in the model's tree, which is T5X's: "encoder/layers_0/attention/query/kernel".
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

SLOTS = ("v_row", "v_col", "v")  # of Adafactor, for each parameter; unused ones have shape (1,)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The contents of a checkpoint. `read` returns one parameter as it is stored, and holds no other in memory."""

    origin: str  # format and path, for messages
    parameters: Mapping[str, tuple[int, ...]]  # shapes
    read: Callable[[str], np.ndarray]
    step: int | None = None  # None: the format does not store it
    read_slot: Callable[[str, str], np.ndarray] | None = None  # (parameter, slot); None: no Adafactor slots
    vocabulary: Path | None = None  # the SentencePiece model beside the checkpoint, if any
    extra_ids: int = 0  # number of sentinels after its tokens
    replacement: bool = False  # of what the vocabulary cannot write: see data.replacement
    config: T5Config | None = None  # None: inferred from the shapes
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of a run: see metadata.describe

    def architecture(self) -> T5Config:
        """Returns the architecture of these parameters."""
        return self.config or architecture(self.parameters, self.origin)

    def tokenizer(self) -> Vocabulary:
        """Returns the vocabulary beside the checkpoint. Raises UserError where there is none."""
        if self.vocabulary is None:
            raise UserError(f"{self.origin} has no vocabulary; give the MODEL_DIR of a run of explainft")
        return Vocabulary(self.vocabulary, self.extra_ids, self.replacement)

    def tree(self) -> dict[str, Any]:
        """Reads all parameters in float32 as the model's tree, on this process's first device."""
        check_parameters(self, self.architecture())
        flat = {name: jax.numpy.asarray(self.read(name).astype(np.float32)) for name in self.parameters}
        return traverse_util.unflatten_dict(flat, sep="/")


def architecture(shapes: Mapping[str, tuple[int, ...]], origin: str) -> T5Config:
    """Infers the architecture of a T5 from the shapes of its parameters.

    Two gates are taken for the gated GELU of T5 1.1: shapes do not show the activation.
    """
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


def check_parameters(weights: Weights, config: T5Config) -> None:
    """Raises UserError where the parameters are not those of the config; names the first difference and both shapes."""
    wanted = parameter_shapes(config)
    for name, shape in wanted.items():
        found = weights.parameters.get(name)
        if found is None:
            raise UserError(
                f"{weights.origin} has no parameter {name!r}, which the model has with shape {shape}; "
                "choose the recipe of the checkpoint's size"
            )
        if found != shape:
            raise UserError(
                f"{weights.origin}: parameter {name!r} has shape {found}, but the model's is {shape}; "
                "choose the recipe of the checkpoint's size"
            )
    for name in weights.parameters:
        if name not in wanted:
            raise UserError(
                f"{weights.origin} has a parameter {name!r} that the model lacks; "
                "choose the recipe of the checkpoint's size"
            )
    not_in_shapes = ["relative_attention_max_distance", "encoder_local_radius"]
    if weights.config is not None:
        not_in_shapes += ["mlp_activations"]
    for field in not_in_shapes:
        found, wanted = getattr(weights.architecture(), field), getattr(config, field)
        if found != wanted:
            raise UserError(
                f"{weights.origin} has {field}={found}, but the model {wanted}; give --gin.{field.upper()}={found}"
            )


def read_parameters(weights: Weights, abstract_params: Any) -> Any:
    """Reads the parameters in float32 into a tree with the structure and the shardings of `abstract_params`.

    One parameter at a time passes through the host's memory.
    """

    def place(path: jax.tree_util.KeyPath, leaf: Any) -> jax.Array:
        return put(weights.read(leaf_name(path)).astype(np.float32), leaf)

    return jax.tree_util.tree_map_with_path(place, abstract_params)


def restore_slots(weights: Weights, opt_state: Any, step: int) -> Any:
    """Returns the optimizer state at a step: the schedule continues from it, with Adafactor's slots of the checkpoint.

    Slots that the checkpoint lacks stay as they are in `opt_state`, with their count of steps.
    """

    def restore(state: Any) -> Any:  # of one transformation in the chain
        if isinstance(state, optax.ScaleByScheduleState):
            return state._replace(count=put(np.int32(step), state.count))
        if isinstance(state, optax.FactoredState) and weights.read_slot is not None:
            slots = {slot: _slot_tree(weights, slot, getattr(state, slot)) for slot in SLOTS}
            # The steps that the slots averaged over, at whatever step this run starts to count.
            seen = step if weights.step is None else weights.step
            return state._replace(count=put(np.int32(seen), state.count), **slots)
        return state

    return jax.tree.map(restore, opt_state, is_leaf=_is_transformation)


def _slot_tree(weights: Weights, slot: str, abstract_slots: Any) -> Any:
    def place(path: jax.tree_util.KeyPath, leaf: Any) -> jax.Array:
        assert weights.read_slot is not None
        value = weights.read_slot(leaf_name(path), slot)
        if value.shape != leaf.shape:
            raise UserError(
                f"{weights.origin}: Adafactor's {slot} of {leaf_name(path)!r} has shape {value.shape}, but this "
                f"optimizer's is {leaf.shape}; convert the checkpoint to a Hugging Face directory, which has no slots"
            )
        return put(value, leaf)

    return jax.tree_util.tree_map_with_path(place, abstract_slots)


def put(value: Any, abstract_array: Any) -> jax.Array:
    """Places a value that every host has with the sharding of `abstract_array`: each device gets its shard."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, abstract_array.sharding, lambda index: value[index])


def _is_transformation(state: Any) -> bool:
    return isinstance(state, optax.ScaleByScheduleState | optax.FactoredState)


def has_adafactor(opt_state: Any) -> bool:
    """Returns whether a transformation of this optimizer state is Adafactor."""
    transformations = jax.tree.leaves(opt_state, is_leaf=_is_transformation)
    return any(isinstance(state, optax.FactoredState) for state in transformations)
