"""T5X checkpoints: reads both layouts, and writes the one that every T5X can restore.

The older layout, that of the public checkpoints, is a msgpack file `checkpoint` beside one zarr array for each
parameter. Newer runs of T5X have a directory `state` written by orbax. Paths may be local or gs://.
"""

import functools
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from etils import epath
from flax import serialization, traverse_util

from explainft.checkpoints.orbax_tree import OrbaxTree
from explainft.checkpoints.weights import SLOTS, Weights
from explainft.model.parameters import named_leaves

FILE = "checkpoint"
STATE = "state"
VERSION = 3  # of the msgpack layout, as T5X writes it
CHUNK_BYTES = 64 * 2**20  # T5X's own size of a zarr chunk
PLACEHOLDER = "PLACEHOLDER://"  # how early orbax wrote into the msgpack file that an array lies beside it


def recognizes(directory: epath.Path) -> bool:
    """Returns whether the directory holds a T5X checkpoint of either layout."""
    return (directory / STATE).is_dir() or _is_msgpack(directory / FILE)


def _is_msgpack(file: epath.Path) -> bool:
    # TensorFlow has a text file of this name. A msgpack map starts with a byte of 0x80 to 0x8f, or with 0xde or 0xdf.
    if not file.exists() or file.is_dir():
        return False
    with file.open("rb") as opened:
        first = opened.read(1)
    return first != b"" and (0x80 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF))


def read(directory: epath.Path) -> Weights:
    """Reads a directory checkpoint_<step>: its parameters, and Adafactor's slots where it has them."""
    if (directory / STATE).is_dir() and not _is_msgpack(directory / STATE / FILE):
        tree = OrbaxTree(directory / STATE)
        shapes, read_array = tree.shapes, tree.read
    else:
        directory = directory / STATE if (directory / STATE).is_dir() else directory
        arrays = _msgpack_arrays(directory)
        shapes = {name: shape for name, (shape, _) in arrays.items()}

        def read_array(name: str) -> np.ndarray:
            return _read_leaf(directory, arrays[name][1])

    parameters = {name.removeprefix("target/"): shape for name, shape in shapes.items() if name.startswith("target/")}
    has_slots = all(f"state/param_states/{name}/{slot}" in shapes for name in parameters for slot in SLOTS)
    return Weights(
        origin=f"T5X checkpoint {directory}",
        parameters=parameters,
        read=lambda name: read_array(f"target/{name}"),
        step=int(read_array("state/step")) if "state/step" in shapes else None,
        read_slot=(lambda name, slot: read_array(f"state/param_states/{name}/{slot}")) if has_slots else None,
    )


def _msgpack_arrays(directory: epath.Path) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Returns shape and leaf of each array: the array itself, or the spec of its file."""
    contents = serialization.msgpack_restore((directory / FILE).read_bytes())
    tree = contents["optimizer"] if "version" in contents else contents
    leaves = named_leaves(tree, is_leaf=_is_spec)
    return {name: (_shape(directory, leaf), leaf) for name, leaf in leaves.items()}


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, dict) and {"driver", "kvstore", "metadata"} <= leaf.keys()


def _shape(directory: epath.Path, leaf: Any) -> tuple[int, ...]:
    if _is_spec(leaf):
        return tuple(leaf["metadata"]["shape"])
    return tuple(_read_leaf(directory, leaf).shape)


def _read_leaf(directory: epath.Path, leaf: Any) -> np.ndarray:
    if _is_spec(leaf):
        # TensorStore before 0.1.14 had the path beside the key-value store, not in it.
        return _open(directory, leaf["kvstore"].get("path") or leaf["path"]).read().result()
    if isinstance(leaf, str) and leaf.startswith(PLACEHOLDER):
        return _open(directory, leaf.removeprefix(PLACEHOLDER)).read().result()
    return np.asarray(leaf)


def _open(directory: epath.Path, path: str, **create: Any) -> Any:
    # Only today's directory counts: the checkpoint may have been written to another one, or to a bucket.
    where = str(directory / path)
    if where.startswith("gs://"):
        bucket, _, inside = where.removeprefix("gs://").partition("/")
        store = {"driver": "gcs", "bucket": bucket, "path": inside}
    else:
        store = {"driver": "file", "path": where}
    # A lost chunk must not be read as zeros; so chunks of zeros are written like any other.
    strict = {"fill_missing_data_reads": False, "store_data_equal_to_fill_value": True}
    return ts.open({"driver": "zarr", "kvstore": store, **strict}, **create).result()


def write(directory: epath.Path, weights: Weights, dtype: str | None = None) -> None:
    """Writes the msgpack layout, one array at a time, as `dtype` (None: as they are).

    Optimizer slots are written where the checkpoint has them. Otherwise they are T5X's initial ones, at step 0:
    Adafactor averages over all steps so far, so fresh slots at a late step would hardly move.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = {name: _write_array(directory, f"target.{name}", weights.read(name), dtype) for name in weights.parameters}
    slots: dict[str, Any] = {}
    for name, shape in weights.parameters.items():
        for slot in SLOTS:
            value = weights.read_slot(name, slot) if weights.read_slot else fresh_slot(shape, slot)
            # T5X expects the means of rows and columns in the msgpack file, and whole arrays beside it.
            whole = slot == "v" and value.shape == shape
            slots[f"{name}/{slot}"] = (
                _write_array(directory, f"state.param_states.{name}.v", value, None) if whole else value
            )
        slots[f"{name}/m"] = np.zeros(1, np.float32)  # momentum, which T5's recipes do not use
    unflatten = functools.partial(traverse_util.unflatten_dict, sep="/")
    state = {"step": np.int32(written_step(weights)), "param_states": unflatten(slots)}
    contents = {"version": VERSION, "optimizer": {"target": unflatten(target), "state": state}}
    (directory / FILE).write_bytes(serialization.msgpack_serialize(contents))


def written_step(weights: Weights) -> int:
    """Returns the step of the slots that `write` writes."""
    return weights.step if weights.read_slot and weights.step is not None else 0


def fresh_slot(shape: tuple[int, ...], slot: str) -> np.ndarray:
    """Returns a slot before the first step: row and column means where both largest dimensions reach 128, else full."""
    second, largest = np.argsort(shape)[-2:] if len(shape) >= 2 else (0, 0)
    factored = len(shape) >= 2 and shape[second] >= 128
    if slot == "v":
        return np.zeros((1,) if factored else shape, np.float32)
    dropped = largest if slot == "v_row" else second
    return np.zeros(np.delete(shape, dropped) if factored else (1,), np.float32)


def _write_array(directory: epath.Path, name: str, value: np.ndarray, dtype: str | None) -> dict[str, Any]:
    """Writes one zarr array, and returns its spec as T5X has it."""
    path = name.replace("/", ".")
    if dtype is not None:
        value = value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    rows = max(1, CHUNK_BYTES // max(1, value[:1].nbytes)) if value.ndim else 1
    chunks = [min(rows, value.shape[0]), *value.shape[1:]]
    array = _open(
        directory,
        path,
        create=True,
        delete_existing=True,
        dtype=ts.dtype(value.dtype),
        shape=value.shape,
        chunk_layout=ts.ChunkLayout(chunk_shape=chunks),
    )
    array.write(value).result()
    stored = array.spec().to_json()
    return {
        "driver": "zarr",
        "dtype": value.dtype.name,
        "kvstore": {"driver": "file", "path": path},
        "metadata": {
            "chunks": chunks,
            "compressor": stored["metadata"]["compressor"],
            "shape": list(value.shape),
        },
    }
