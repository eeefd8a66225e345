"""The metadata of a checkpoint: named values as JSON, with the number of their format and a digest.

Nothing in it names a module of explainft or a file of its code, so code can move without a change of the format.
The digest is computed in the same way in every format.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import orbax.checkpoint as ocp

from explainft.checkpoints import integrity
from explainft.checkpoints.progress import Progress
from explainft.core.errors import UserError
from explainft.data.sample_datasets import pack_digests, unpack_digests
from explainft.data.token_cache import TokenCache
from explainft.model.t5 import T5Config

FORMAT = 2  # raise it when a key below changes its name or its meaning
KEYS: dict[str, type | tuple[type, ...]] = {
    "model": dict,  # architecture: the fields of T5Config
    "task": str,
    "module": str,  # that registers the task
    "evaluation": str,  # task or mixture that training decodes
    "extra_ids": int,
    "lengths": dict,  # in tokens: of the longest inputs and targets, and of the shortest inputs, min_inputs
    "explanation": (dict, type(None)),  # style and modulus of a ListOps task, and the form of a multi-task one
    "next_input": (dict, type(None)),  # task and module, whose registry has the function of an iterative task
    "data": dict,
    "output_ids": (list, type(None)),  # token ids of the output layer; None: all
    "progress": dict,
    "checksums": dict,
}
# What must agree before a run is resumed; dataset_digest is that of imported questions.
SAME_RUN = ("model", "task", "module", "data", "output_ids", "dataset_digest")
# Of the training examples: digests of an import and of its questions, with those of the checkpoint that the run
# started from, a verifier's prompt and generator.
TRAINING_META = ("dataset_digest", "trained_questions", "verifier")
Fields = TypeVar("Fields", T5Config, Progress)


def describe_settings(model: T5Config, task: str, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a run's metadata that needs no data. `dataset`: the fields of DatasetConfig."""
    return {
        "model": {**dataclasses.asdict(model), "mlp_activations": list(model.mlp_activations)},
        "task": task,
        "module": dataset["module"],
        "data": {
            **{name: dataset[name] for name in ("task_feature_lengths", "batch_size", "seed", "pack")},
            **({} if dataset["alpha"] is None else {"alpha": dataset["alpha"]}),
        },
    }


def describe(
    model: T5Config,
    cache: TokenCache,
    dataset: Mapping[str, Any],
    evaluation: str,
    output_ids: list[int] | None,
) -> dict[str, Any]:
    """Returns the metadata of a run: its model, its tasks, and how it reads its data.

    `dataset`: the fields of DatasetConfig; `evaluation`: the task or mixture that training decodes.
    """
    vocabulary_file = dataset.get("vocabulary_file")
    arguments = (cache.meta["postprocess"] or {}).get("kwargs", {})
    explanation = {"style": arguments.get("style"), "modulus": arguments.get("modulus", 10)}
    explanation |= {"form": arguments["form"]} if arguments.get("form") else {}
    return {
        "format": FORMAT,
        **describe_settings(model, cache.task, dataset),
        "evaluation": evaluation,
        "extra_ids": cache.vocabulary.extra_ids,
        "lengths": cache.lengths(),
        "explanation": explanation if "style" in arguments else None,
        "next_input": {"task": cache.task, "module": dataset["module"]} if cache.meta["next_input"] else None,
        "output_ids": output_ids,
        # Present where they hold alone: the metadata of other runs stays what it was.
        **({"replacement": True} if cache.vocabulary.replacement else {}),
        **({"own_vocabulary": True} if vocabulary_file is not None else {}),
        **{name: cache.meta[name] for name in TRAINING_META if name in cache.meta},
        **({"questions": arguments} if "problem" in arguments else {}),  # problem and form
    }


def with_earlier_questions(description: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the description of a run with the training questions of the checkpoint that it starts from, too."""
    if "trained_questions" not in earlier:
        return description
    own, before = (unpack_digests(meta.get("trained_questions", "")) for meta in (description, earlier))
    return {**description, "trained_questions": pack_digests(own | before)}


def read_metadata(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Reads the metadata of a checkpoint.

    Raises CorruptCheckpoint where it is not what was written, and UserError where it is of another format.
    """
    with integrity.reading(manager.directory, step):
        meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if not isinstance(meta, dict):
            raise ValueError(f"metadata must be a JSON object, not {type(meta).__name__}")
        if "digest" in meta or "format" in meta:  # formats before the first number may lack both
            integrity.verify_digest(meta)
    _check_format(meta, f"checkpoint {step} in {manager.directory}")
    with integrity.reading(manager.directory, step):
        for key, kind in KEYS.items():
            if not isinstance(meta.get(key, ...), kind):
                raise ValueError(f"metadata lacks a valid {key!r}")
    return meta


def _check_format(meta: Mapping[str, Any], origin: str) -> None:
    found = meta.get("format", 1)
    if found == FORMAT:
        return
    if isinstance(found, int) and found > FORMAT:
        raise UserError(f"{origin} has format {found}, and this explainft reads format {FORMAT}; upgrade explainft")
    raise UserError(
        f"{origin} has format {found!r} of an older explainft, and this one reads format {FORMAT}; "
        "use the explainft that wrote it, or train again"
    )


def read_model(meta: Mapping[str, Any], origin: str) -> T5Config:
    """Returns the architecture that the metadata of a checkpoint describes."""
    fields = dict(meta["model"])
    if isinstance(fields.get("mlp_activations"), list):
        fields["mlp_activations"] = tuple(fields["mlp_activations"])
    return _construct(T5Config, fields, "model", origin)


def read_progress(meta: Mapping[str, Any], origin: str) -> Progress:
    """Returns the progress of the run at the checkpoint with this metadata."""
    return _construct(Progress, meta["progress"], "progress", origin)


def _construct(kind: type[Fields], fields: Mapping[str, Any], key: str, origin: str) -> Fields:
    names = {field.name for field in dataclasses.fields(kind)}
    for problem, wrong in (("lacks", names - fields.keys()), ("has an unknown", fields.keys() - names)):
        if wrong:
            raise UserError(f"{origin}: its metadata {problem} {key} field {min(wrong)!r}; copy the checkpoint again")
    return kind(**fields)


def find_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Returns a phrase about the first setting of another run; None where both describe the same run.

    `wanted` may lack what only the data specify.
    """
    for key in SAME_RUN:
        if key not in wanted or found.get(key, wanted[key]) == wanted[key]:
            continue
        if key == "dataset_digest":
            return f"another import of its dataset ({key}={found[key]!r}, not {wanted[key]!r})"
        if isinstance(wanted[key], dict):
            names = sorted(found[key].keys() | wanted[key].keys())
            pairs = {name: (found[key].get(name), wanted[key].get(name)) for name in names}
        else:
            pairs = {key: (found[key], wanted[key])}
        return ", ".join(f"{name}={a!r}, not {b!r}" for name, (a, b) in pairs.items() if a != b)
    return None
