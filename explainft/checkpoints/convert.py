"""Checkpoints in and out: what lies in a folder is recognised, and any of it can become any other."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from etils import epath
from tqdm import tqdm

from explainft.checkpoints import hugging_face, integrity, run_checkpoint, t5x
from explainft.checkpoints.weights import Weights, check_network
from explainft.core import tensorflow_setup
from explainft.core.errors import UserError, require_name
from explainft.data.vocabulary import Vocabulary
from explainft.model.layers import RELPOS_MAX_DISTANCE

WRITERS = {"hf": hugging_face.write, "t5x": t5x.write}
EXPECTED = (
    "a run of explainft (checkpoints/), a T5X checkpoint (a msgpack file `checkpoint` or a folder state/), "
    "or a Hugging Face folder (config.json with model.safetensors or pytorch_model.bin)"
)


def open_weights(path: str, step: int | str | None = None) -> Weights:
    """The checkpoint at a local path or gs:// address, whatever its format.

    The folder of a run of ours or of T5X stands for its newest checkpoint, unless a step is given. Raises UserError
    where it is none of the known formats.
    """
    require_name(checkpoint=path)
    folder, inside = _list(path)
    try:
        found = _recognise(path, folder, inside, step)
    except UserError:
        raise
    except Exception as e:  # every library has its own error for a damaged file
        raise UserError(f"cannot read {path} ({_line(e)}); copy the checkpoint again") from e
    return _guarded(found)


def _recognise(path: str, folder: epath.Path, inside: list[str], step: int | str | None) -> Weights:
    local = Path(folder).absolute()
    if "checkpoints" in inside:
        return run_checkpoint.open_run(_local(path, local), step)
    one = {"params", "meta"} <= set(inside)  # checkpoint_<step> of ours
    if step is not None and (one or hugging_face.recognises(local) or t5x.recognises(folder)):
        raise UserError(f"{path} is one checkpoint; give --step with the folder of a run")
    if one:
        if not _is_step(local.name) or local.parent.name != "checkpoints":
            raise UserError(f"{path} is a checkpoint outside of its run; give RUN/checkpoints/checkpoint_STEP")
        return run_checkpoint.open_run(_local(path, local).parent.parent, int(local.name.removeprefix("checkpoint_")))
    if "config.json" in inside and hugging_face.recognises(_local(path, local)):
        return hugging_face.read(local)
    steps = sorted(int(name.removeprefix("checkpoint_")) for name in inside if _is_step(name))
    if steps and not t5x.recognises(folder):
        chosen = steps[-1] if step is None else step
        if chosen not in steps:
            raise UserError(f"{path} has no checkpoint of step {chosen}; it has {steps}")
        folder /= f"checkpoint_{chosen}"
    if t5x.recognises(folder):
        return t5x.read(folder)
    found = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "") if inside else "nothing"
    hint = "; a TensorFlow checkpoint must be converted by T5X first" if "model.ckpt" in found else ""
    raise UserError(f"{path} holds {found}{hint}; expected is {EXPECTED}")


def _guarded(weights: Weights) -> Weights:
    """The same, but an array that cannot be read is named."""

    def guard(read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def guarded(*name: str) -> np.ndarray:
            try:
                return read(*name)
            except UserError:
                raise
            except Exception as e:  # as above
                raise UserError(f"{weights.origin}: cannot read {'/'.join(name)} ({_line(e)}); copy it again") from e

        return guarded

    read_slot = None if weights.read_slot is None else guard(weights.read_slot)
    return dataclasses.replace(weights, read=guard(weights.read), read_slot=read_slot)


def _list(path: str) -> tuple[epath.Path, list[str]]:
    """The folder that is meant, and the names in it."""
    if path.startswith("gs://"):
        tensorflow_setup.import_tensorflow()  # which reads buckets
    folder = epath.Path(path)
    try:
        if not folder.exists():
            raise UserError(f"no checkpoint at {path}; expected is {EXPECTED}")
        if not folder.is_dir():  # T5X also takes the msgpack file itself
            folder = folder.parent
        return folder, sorted(entry.name for entry in folder.iterdir())
    except UserError:
        raise
    except Exception as e:  # TensorFlow has errors of its own for a bucket that cannot be reached
        raise UserError(f"cannot read {path} ({_line(e)}); give a folder that this machine can reach") from e


def _local(path: str, folder: Path) -> Path:
    if "://" in path:
        raise UserError(f"{path}: only T5X checkpoints are read from a bucket; copy the folder to this machine first")
    return folder


def _is_step(name: str) -> bool:
    return name.startswith("checkpoint_") and name.removeprefix("checkpoint_").isdecimal()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def convert(
    source: str,
    destination: Path,
    to: str,
    step: int | str | None = None,
    dtype: str | None = None,
    vocabulary: Path | None = None,
) -> Path:
    """Writes a checkpoint in another format, "hf" or "t5x"; returns the path to give to its readers.

    Few parameters are held at a time, however many there are. `dtype`: "float32", "bfloat16" or None, which keeps what
    is stored. `vocabulary`: a SentencePiece model for the tokenizer of a Hugging Face folder, where the checkpoint does
    not bring its own.
    """
    if destination.exists():
        raise UserError(f"{destination} exists; name a new folder")
    found = open_weights(source, step)
    model = found.architecture()
    check_network(found, model)
    if vocabulary is not None:
        size = Vocabulary(vocabulary).size
        if to != "hf" or size > model.vocab_size:
            why = f"{size} pieces are more than the network's {model.vocab_size}" if to == "hf" else "it is for --to hf"
            raise UserError(f"--vocabulary={vocabulary} cannot be used: {why}; leave it out or name another")
        found = dataclasses.replace(found, vocabulary=vocabulary, extra_ids=0)
    if to == "hf" and found.vocabulary is None:
        _note("no tokenizer is written; --vocabulary names a SentencePiece model to make it from")
    if to == "t5x" and model.relative_attention_max_distance != RELPOS_MAX_DISTANCE:
        raise UserError(
            f"{source} has relative_attention_max_distance={model.relative_attention_max_distance}, and T5X's network "
            f"{RELPOS_MAX_DISTANCE}: use --to hf"
        )
    if model.encoder_local_radius is not None:
        raise UserError(
            f"{source} has encoder_local_radius={model.encoder_local_radius}, which no T5 of T5X or Hugging Face has; "
            "the folder of its run is all there is of it"
        )
    if to == "t5x" and found.meta.get("output_ids") is not None:
        _note(
            f"the run learned {len(found.meta['output_ids'])} of {model.vocab_size} output pieces alone "
            "(OUTPUT_VOCABULARY=task), and T5X may write the others; decode with explainft, or use --to hf"
        )
    if to == "t5x" and found.read_slot is None:
        _note("no Adafactor slots to write: fresh ones, at step 0; count from there with TRAIN_STEPS_RELATIVE")
    with tqdm(total=len(found.parameters), desc=f"{to} of {source}", unit=" arrays", disable=None) as bar:
        scratch = destination.with_name(f"{destination.name}.{os.getpid()}.incomplete")
        # T5X takes the step from the folder's name, so the checkpoint stands in one below the destination.
        below = scratch / f"checkpoint_{t5x.written_step(found)}" if to == "t5x" else scratch
        try:
            with integrity.writing(destination):
                WRITERS[to](epath.Path(below), _counted(found, bar), dtype)
                scratch.rename(destination)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return destination / below.name if to == "t5x" else destination


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _counted(weights: Weights, bar: tqdm) -> Weights:
    def read(name: str) -> np.ndarray:
        bar.update()
        return weights.read(name)

    return dataclasses.replace(weights, read=read)
