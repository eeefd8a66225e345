"""Converting checkpoints: the format of a directory is recognized, and written as another one."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from etils import epath
from tqdm import tqdm

from explainft.checkpoints import hugging_face, integrity, run_checkpoint, t5x
from explainft.checkpoints.weights import Weights, check_parameters
from explainft.core import tensorflow_setup
from explainft.core.atomic_files import new_directory, put_in_place
from explainft.core.errors import UserError, require_name
from explainft.data.vocabulary import Vocabulary
from explainft.model.config import T5Config
from explainft.model.layers import RELPOS_MAX_DISTANCE

BEST = ("checkpoints", "best")  # of a run: the checkpoint with the best score
WRITERS = {"hf": hugging_face.write, "t5x": t5x.write}
EXPECTED = (
    "a run of explainft (checkpoints/), a T5X checkpoint (a msgpack file `checkpoint` or a directory state/), "
    "or a Hugging Face directory (config.json with model.safetensors or pytorch_model.bin)"
)


def open_weights(path: str, step: int | str | None = None) -> Weights:
    """Opens the checkpoint at a local path or gs:// address, in any known format.

    The directory of a run of explainft or T5X stands for its latest checkpoint, unless a step is given, and
    RUN/checkpoints/best for the best one of a run of explainft. Raises UserError where the format is unknown.
    """
    require_name(checkpoint=path)
    if step is None and Path(path).parts[-2:] == BEST:
        path, step = str(Path(path).parents[1]), "best"
    directory, inside = _list(path)
    try:
        found = _recognize(path, directory, inside, step)
    except UserError:
        raise
    except Exception as e:  # every library has its own error for a corrupt file
        raise UserError(f"cannot read {path} ({_line(e)}); copy the checkpoint again") from e
    return _name_read_errors(found)


def _recognize(path: str, directory: epath.Path, inside: list[str], step: int | str | None) -> Weights:
    local = Path(directory).absolute()
    if "checkpoints" in inside:
        return run_checkpoint.open_run(_local(path, local), step)
    one = {"params", "meta"} <= set(inside)  # checkpoint_<step> of explainft
    if step is not None and (one or hugging_face.recognizes(local) or t5x.recognizes(directory)):
        raise UserError(f"{path} is one checkpoint; give --step with the directory of a run")
    if one:
        if not _is_step(local.name) or local.parent.name != "checkpoints":
            raise UserError(f"{path} is a checkpoint outside of its run; give RUN/checkpoints/checkpoint_STEP")
        return run_checkpoint.open_run(_local(path, local).parent.parent, int(local.name.removeprefix("checkpoint_")))
    if "config.json" in inside and hugging_face.recognizes(_local(path, local)):
        return hugging_face.read(local)
    steps = sorted(int(name.removeprefix("checkpoint_")) for name in inside if _is_step(name))
    if steps and not t5x.recognizes(directory):
        chosen = steps[-1] if step is None else step
        if chosen not in steps:
            raise UserError(f"{path} has no checkpoint of step {chosen}; it has {steps}")
        directory /= f"checkpoint_{chosen}"
    if t5x.recognizes(directory):
        return t5x.read(directory)
    found = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "") if inside else "nothing"
    hint = "; a TensorFlow checkpoint must be converted by T5X first" if "model.ckpt" in found else ""
    raise UserError(f"{path} holds {found}{hint}; expected {EXPECTED}")


def _name_read_errors(weights: Weights) -> Weights:
    """Returns the same weights, whose errors name the array that cannot be read."""

    def wrap(read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def read_named(*name: str) -> np.ndarray:
            try:
                return read(*name)
            except UserError:
                raise
            except Exception as e:  # as above
                raise UserError(f"{weights.origin}: cannot read {'/'.join(name)} ({_line(e)}); copy it again") from e

        return read_named

    read_slot = None if weights.read_slot is None else wrap(weights.read_slot)
    return dataclasses.replace(weights, read=wrap(weights.read), read_slot=read_slot)


def _list(path: str) -> tuple[epath.Path, list[str]]:
    """Returns the directory of a path, and the names in it."""
    if path.startswith("gs://"):
        tensorflow_setup.import_tensorflow()  # which reads buckets
    directory = epath.Path(path)
    try:
        if not directory.exists():
            raise UserError(f"no checkpoint at {path}; expected {EXPECTED}")
        if not directory.is_dir():  # T5X also takes the msgpack file itself
            directory = directory.parent
        return directory, sorted(entry.name for entry in directory.iterdir())
    except UserError:
        raise
    except Exception as e:  # TensorFlow has errors of its own for a bucket that cannot be reached
        raise UserError(f"cannot read {path} ({_line(e)}); give a directory that this machine can reach") from e


def _local(path: str, directory: Path) -> Path:
    if "://" in path:
        raise UserError(
            f"{path}: only T5X checkpoints are read from a bucket; copy the directory to this machine first"
        )
    return directory


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
    """Writes a checkpoint in another format, "hf" or "t5x"; returns the path of the new one.

    Few parameters are in memory at a time. `dtype`: "float32", "bfloat16" or None, which keeps what is stored.
    `vocabulary`: a SentencePiece model for the tokenizer of a Hugging Face directory, where the checkpoint has none.
    """
    if destination.exists():
        raise UserError(f"{destination} exists; choose a new directory")
    found = open_weights(source, step)
    model = found.architecture()
    check_parameters(found, model)
    if vocabulary is not None:
        _check_vocabulary(vocabulary, model, to)
        found = dataclasses.replace(found, vocabulary=vocabulary, extra_ids=0)
    _check_supported(source, model, to)
    _report_losses(found, model, to)
    with tqdm(total=len(found.parameters), desc=f"{to} of {source}", unit=" arrays", disable=None) as bar:
        # T5X takes the step from the directory's name, so the checkpoint is one level below the destination.
        below = f"checkpoint_{t5x.written_step(found)}" if to == "t5x" else ""
        with integrity.writing(destination), new_directory(destination) as scratch:
            WRITERS[to](epath.Path(scratch / below), _counted(found, bar), dtype)
            put_in_place(scratch, destination)
    return destination / below


def _check_vocabulary(vocabulary: Path, model: T5Config, to: str) -> None:
    size = Vocabulary(vocabulary).size
    if to == "hf" and size <= model.vocab_size:
        return
    why = f"its {size} tokens exceed vocab_size={model.vocab_size} of the model" if to == "hf" else "it needs --to hf"
    raise UserError(f"--vocabulary={vocabulary} cannot be used: {why}; leave it out or choose another")


def _check_supported(source: str, model: T5Config, to: str) -> None:
    """Refuses an architecture that the other format does not have."""
    if to == "t5x" and model.relative_attention_max_distance != RELPOS_MAX_DISTANCE:
        raise UserError(
            f"{source} has relative_attention_max_distance={model.relative_attention_max_distance}, but T5X's model "
            f"always {RELPOS_MAX_DISTANCE}; use --to hf"
        )
    if model.encoder_local_radius is not None:
        raise UserError(
            f"{source} has encoder_local_radius={model.encoder_local_radius}, which T5X and Hugging Face do not "
            "support; decode its run with explainft"
        )


def _report_losses(found: Weights, model: T5Config, to: str) -> None:
    """Prints what the other format does not keep."""
    if to == "hf":
        if found.vocabulary is None:
            _note("no tokenizer is written; give a SentencePiece model with --vocabulary")
        return
    if found.meta.get("output_ids") is not None:
        _note(
            f"the run was trained on {len(found.meta['output_ids'])} of {model.vocab_size} output tokens "
            "(OUTPUT_VOCABULARY=task), and T5X may generate the others; decode with explainft, or use --to hf"
        )
    if found.read_slot is None:
        _note("the checkpoint has no Adafactor slots: they start fresh, at step 0; train on with TRAIN_STEPS_RELATIVE")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _counted(weights: Weights, bar: tqdm) -> Weights:
    def read(name: str) -> np.ndarray:
        bar.update()
        return weights.read(name)

    return dataclasses.replace(weights, read=read)
