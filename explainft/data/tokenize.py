"""A SeqIO task's examples as token ids, written to disk. The functions here import TensorFlow."""

import contextlib
import dataclasses
import importlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from explainft.core import tensorflow_setup
from explainft.core.atomic_files import new_directory, put_in_place
from explainft.core.errors import UserError, nearest
from explainft.data import coverage, few_shot, freshness, multitask, ragged, replacement, task_registry
from explainft.data.label_rows import LabelRows
from explainft.data.target_parts import TARGET_PARTS
from explainft.data.vocabulary import Vocabulary

FEATURES = ("inputs", "targets")
BATCH = 256  # examples taken from TensorFlow at a time


def registered_names(task_module: str, data_dir: str | None = None, wanted: str = "") -> set[str]:
    """Imports the task module; returns the names of all tasks and mixtures. Raises UserError for an unknown module.

    A module whose tasks depend on the datasets that are there has a function register_datasets, as tasks.questions
    does: it is called each time. One with more names than it registers has register_name, which is given the `wanted`
    one. Its function explain_missing, where it has one, says why it has no task of a name.
    """
    tensorflow_setup.import_tensorflow()
    import seqio

    if data_dir is not None:
        seqio.set_tfds_data_dir_override(data_dir)
    try:
        module = importlib.import_module(task_module)
        getattr(module, "register_datasets", lambda: None)()
        getattr(module, "register_name", lambda name: None)(wanted)
    except ModuleNotFoundError as e:
        raise UserError(
            f"MIXTURE_OR_TASK_MODULE={task_module!r} cannot be imported ({e}); name an importable module"
        ) from e
    return set(seqio.TaskRegistry.names()) | set(seqio.MixtureRegistry.names())


def get_task_or_mixture(name: str, task_module: str, data_dir: str | None = None) -> Any:
    """Returns SeqIO's task or mixture. Raises UserError for an unknown name or module."""
    known = registered_names(task_module, data_dir, name)
    import seqio

    if name not in known:
        why = getattr(importlib.import_module(task_module), "explain_missing", lambda name: None)(name)
        hint = f"; {why}" if why else nearest(name, known)
        raise UserError(f"module {task_module!r} registers no task or mixture {name!r}{hint}")
    return seqio.get_mixture_or_task(name)


def build(name: str, split: str, settings: dict[str, Any], directory: Path) -> None:
    """Writes the tokens of a task's split to `directory`, which appears when it is complete.

    Raises UserError for a task that cannot be read or does not suit T5, and for an unwritable directory.
    """
    tensorflow_setup.import_tensorflow()
    import seqio
    import tensorflow as tf

    task = get_task_or_mixture(name, settings["module"], settings["data_dir"])
    if not isinstance(task, seqio.Task):
        raise UserError(
            f"{name!r} is a mixture; this engine trains on one task: name one of {[t.name for t in task.tasks]}"
        )
    if split not in task.splits:
        raise UserError(f"task {name!r} has no split {split!r}{nearest(split, task.splits)}")
    offline = _offline_cache(task, split, settings)
    try:
        if settings["vocabulary_file"] is not None:
            if settings["offline_caches"] is not None:
                raise UserError("USE_CACHED_TASKS=True reads tokens of the task's own vocabulary; drop VOCABULARY_FILE")
            task = _with_vocabulary(task, settings["vocabulary_file"])
        vocabulary = _shared_vocabulary(task)
        # A directory of its own: two runs may build the same cache at once.
        with new_directory(directory) as scratch:
            _copy(vocabulary.sentencepiece_model_file, scratch / "vocabulary.model")
            written = Vocabulary(scratch / "vocabulary.model", vocabulary.extra_ids, _replaces(vocabulary))
            lost = {feature: coverage.Counts(written) for feature in FEATURES}
            labels = task_registry.describe_labels(name)
            scored = LabelRows(labels["labels"], written) if labels and split != "train" else None
            shots = _write_examples(task, split, scratch, bool(offline), settings.get("input_length"), lost, scored)
            meta = _meta(task, split, settings, vocabulary, offline) | shots
            meta |= {"left_out": scored.left_out} if scored and scored.left_out else {}
            meta["coverage"] = {name: dataclasses.asdict(counts.coverage()) for name, counts in lost.items()}
            (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
            _put_in_place_once(scratch, directory, settings)
    except OSError as e:
        raise unwritable(directory, e) from e
    except tf.errors.OpError as e:
        raise UserError(f"task {name!r} cannot be read ({' '.join(e.message.split())}); fix it or its files") from e


def _put_in_place_once(scratch: Path, directory: Path, settings: dict[str, Any]) -> None:
    """Puts a cache in place, unless another process was faster, whose run may read its own now."""
    try:
        if not freshness.is_fresh(directory / "meta.json", settings):
            put_in_place(scratch, directory)
    except OSError:
        if not freshness.is_fresh(directory / "meta.json", settings):  # no other process came between
            raise


def unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write the token cache {path} ({error.strerror}); set EXPLAINFT_CACHE_DIR to a writable directory"
    )


def _meta(task: Any, split: str, settings: dict[str, Any], vocabulary: Any, offline: list[Path]) -> dict[str, Any]:
    """Describes a cache: what reads it needs this alone, and no SeqIO."""
    postprocess = task_registry.describe_function(task.postprocessor)
    next_input = task_registry.describe_iterative(task.name)
    metrics = [task_registry.describe_function(metric) for metric in task.predict_metric_fns]
    data_files = [path for path in offline or _data_files(task, split) if path.is_file()]
    return {
        "format": freshness.FORMAT,
        "task": task.name,
        "split": split,
        "settings": settings,
        "extra_ids": vocabulary.extra_ids,
        "replacement": _replaces(vocabulary),
        "postprocess": postprocess,
        "next_input": next_input,
        "metrics": metrics,
        **task_registry.describe_labels(task.name),
        **task_registry.describe_context(task.name),
        **_training_meta(task),
        "function_sources": freshness.function_sources(postprocess, next_input, *metrics),
        "sources": freshness.task_sources(
            settings["module"], vocabulary.sentencepiece_model_file, replacement.__file__, multitask.__file__
        )
        | {str(path): freshness.file_digest(path) for path in data_files},
    }


def _offline_cache(task: Any, split: str, settings: dict[str, Any]) -> list[Path]:
    """Returns the files that describe what seqio_cache_tasks wrote for the split; none where it is not asked for."""
    import seqio
    import tensorflow as tf

    dirs = settings["offline_caches"]
    if dirs is None and task.requires_caching:
        raise UserError(f"task {task.name!r} can be read from an offline cache only; set USE_CACHED_TASKS=True")
    if dirs is None or not task.supports_caching:
        return []
    seqio.add_global_cache_dirs(dirs)
    if task.cache_dir is not None:
        described = [
            seqio.get_cached_info_path(task.cache_dir, split),
            seqio.get_cached_stats_path(task.cache_dir, split),
        ]
        if all(tf.io.gfile.exists(path) for path in described):
            return [Path(path) for path in described]
    searched = ", ".join(seqio.get_global_cache_dirs()) or "any directory: --seqio_additional_cache_dirs names none"
    command = f"seqio_cache_tasks --tasks={task.name} --output_cache_dir={dirs[0] if dirs else 'DIRECTORY'}"
    data_dir = f" --tfds_data_dir={settings['data_dir']}" if settings["data_dir"] else ""
    raise UserError(
        f"USE_CACHED_TASKS=True, but split {split!r} of task {task.name!r} is not cached in {searched}; "
        f"run: {command} --module_import={settings['module']}{data_dir}, or set it to False"
    )


def _write_examples(
    task: Any,
    split: str,
    directory: Path,
    use_cached: bool,
    input_length: int | None,
    lost: dict[str, coverage.Counts],
    scored: LabelRows | None,
) -> dict[str, Any]:
    """Writes tokens and records, and counts in `lost` what the vocabulary loses of the texts.

    Of a task with labels it writes those rows that can be `scored`. Returns what the meta has of a few-shot task;
    `input_length` is that of its prompts (None: they are whole).
    """
    texts = {feature: f"{feature}_pretokenized" for feature in FEATURES}

    length = None if input_length is None else {"inputs": input_length}
    dataset = task.get_dataset(
        sequence_length=length, split=split, shuffle=False, use_cached=use_cached, trim_output_features=False
    )
    demonstrations = Counter[int]() if few_shot.DEMONSTRATIONS in dataset.element_spec else None
    features = [*FEATURES, *({TARGET_PARTS} & set(dataset.element_spec))]
    # Of an offline cache without asking the source, whose data need not be there.
    n = task.get_cached_stats(split)["examples"] if use_cached else task.num_input_examples(split)
    if split == "train":  # it is not scored: its other fields are not kept
        kept = {*features, *texts.values(), few_shot.DEMONSTRATIONS}
        dataset = dataset.map(lambda example: {name: value for name, value in example.items() if name in kept})
    with contextlib.ExitStack() as files:
        write = {feature: files.enter_context(ragged.writer(directory, feature)) for feature in features}
        records = files.enter_context(open(directory / "records.jsonl", "w", encoding="utf-8"))
        bar = files.enter_context(tqdm(total=n, desc=f"tokens of {task.name}", unit=" examples", disable=None))
        for batch in dataset.ragged_batch(BATCH):
            bar.update(int(batch["inputs"].shape[0]))
            tokens = {feature: _flat(batch.pop(feature)) for feature in features}
            columns = {key: _to_json(values.numpy()) for key, values in batch.items()}
            if demonstrations is not None:
                demonstrations.update(columns[few_shot.DEMONSTRATIONS])
            if scored is not None:
                keep = scored.select(columns, *tokens["targets"], tokens.get(TARGET_PARTS))
                tokens = {f: (values[np.repeat(keep, n)], n[keep]) for f, (values, n) in tokens.items()}
                columns = {key: list(itertools.compress(values, keep)) for key, values in columns.items()}
            for feature, (values, lengths) in tokens.items():
                write[feature](values, lengths)
            for feature, name in texts.items():
                for text in columns.get(name, ()):
                    if isinstance(text, str):  # a task may have made it of anything
                        lost[feature].add(text)
            if split == "train":
                continue
            for fields in zip(*columns.values(), strict=True):
                records.write(json.dumps(dict(zip(columns, fields, strict=True))) + "\n")
    if demonstrations is None:
        return {}
    left_out = 0 if n is None else n - demonstrations.total()
    return {"demonstrations": few_shot.describe_counts(demonstrations, left_out, input_length)}


def _flat(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the concatenated tokens of a batch, and the length of each row."""
    import tensorflow as tf

    if isinstance(rows, tf.Tensor):  # all of one length
        rows = tf.RaggedTensor.from_tensor(rows)  # pyright: ignore[reportAttributeAccessIssue] (decorated)
    return rows.values.numpy(), rows.row_lengths().numpy()


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        return _to_json(value.tolist())
    return [_to_json(v) for v in value] if isinstance(value, list) else value


def _shared_vocabulary(task: Any) -> Any:
    """Returns the SentencePiece vocabulary of a task's inputs and targets. Raises UserError for a task without one."""
    import seqio

    missing = [feature for feature in FEATURES if feature not in task.output_features]
    if missing:
        raise UserError(f"task {task.name!r} has no output feature {missing[0]!r}; T5 needs inputs and targets")
    inputs, targets = (task.output_features[feature].vocabulary for feature in FEATURES)
    if not isinstance(inputs, seqio.SentencePieceVocabulary):
        raise UserError(
            f"task {task.name!r} has a {type(inputs).__name__}; give its features a SentencePieceVocabulary"
        )
    if inputs != targets or _replaces(inputs) != _replaces(targets):
        raise UserError(f"task {task.name!r} has two vocabularies; T5 shares one between inputs and targets")
    inputs.load_model()  # raises where its file is missing
    return inputs


def _with_vocabulary(task: Any, file: str) -> Any:
    """Returns the task with another vocabulary. Raises UserError where the file is not a SentencePiece model."""
    import seqio

    Vocabulary(file)  # refuses any other file in one line
    vocabulary = seqio.SentencePieceVocabulary(file)
    features = {
        name: dataclasses.replace(feature, vocabulary=vocabulary) for name, feature in task.output_features.items()
    }
    return task.replace(output_features=features)


def _replaces(vocabulary: Any) -> bool:
    return getattr(vocabulary, "replacement", False)  # of seqio's own classes none does


def _copy(source: str, destination: Path) -> None:
    import tensorflow as tf

    tf.io.gfile.copy(source, str(destination))  # the source may lie in a bucket


def _data_files(task: Any, split: str) -> list[Path]:
    """Returns the files that change with the data; of a function that makes examples none are known."""
    import seqio

    loader = getattr(task.source, "tfds_dataset", None)
    if loader is not None:
        return [Path(str(loader.builder.data_path)) / "dataset_info.json", *descriptor_files(task)]
    return (
        [Path(file) for file in task.source.list_shards(split)] if isinstance(task.source, seqio.FileDataSource) else []
    )


def _training_meta(task: Any) -> dict[str, Any]:
    """Returns what a run keeps of its training examples, such as the digest of one import; nothing for other tasks."""
    describe = getattr(task.source, "training_meta", None) if "train" in task.splits else None
    return {} if describe is None else describe()


def descriptor_files(task: Any) -> list[Path]:
    """Returns the files that tell one import of a task's dataset from another; none for other sources."""
    file = getattr(task.source, "descriptor_file", None)
    return getattr(task.source, "descriptor_files", [file] if file is not None else [])
