"""A task's examples as token ids on disk: SeqIO makes them once, every later run maps them without TensorFlow."""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from explainft import listops
from explainft.core import tensorflow_setup
from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError, nearest
from explainft.core.jax_setup import cache_root
from explainft.data import ragged
from explainft.data.vocabulary import Vocabulary

FEATURES = ("inputs", "targets")
BATCH = 256  # examples taken from TensorFlow at a time
EXAMPLES = 2**14  # read at a time
FORMAT = 4  # raise it when what is written below changes
INSTALLED = {"site-packages", "dist-packages"}  # folders of other people's modules, as in a .venv of the current folder


Record = dict[str, Any]  # the fields of an example beside its tokens, for postprocessing and metrics
Rest = Callable[[str, str], str | None]

_rests: dict[str, Rest] = {}  # by task


def read_again(task: str, rest: Rest) -> None:
    """For the module that registers a task whose predictions are several texts, each of an input of its own.

    `rest(inputs, text)` is what there is to read after `text` was written for `inputs`, or None where nothing is
    left. Where it is `inputs` again the text was of no use, and the first of some others, drawn at random, that is
    of use takes its place; without one the text stands and is the last. The prediction is all texts, a line each.
    `rest` is a function of a module, and comes to an end with any texts.
    """
    _rests[task] = rest


class TokenCache:
    """One split of one task: `inputs` and `targets` as token ids, EOS included, nothing cut; what metrics need."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.task: str = self.meta["task"]
        self.split: str = self.meta["split"]
        self.inputs = ragged.Ragged(folder, "inputs")
        self.targets = ragged.Ragged(folder, "targets")
        self.vocabulary = Vocabulary(folder / "vocabulary.model", self.meta["extra_ids"])
        with open(folder / "records.jsonl", encoding="utf-8") as lines:
            self.records: list[Record] = [json.loads(line) for line in lines]  # none for the split "train"

    def __len__(self) -> int:
        return len(self.inputs)

    def require_texts(self) -> None:
        """Refuses a split that cannot be scored, before it is decoded."""
        if len(self.records) != len(self) or not self.records:
            why = "has no examples" if not len(self) else "is kept as tokens alone, without the texts to score"
            raise UserError(f"split {self.split!r} of {self.task} {why}; name another split")

    def lengths(self) -> dict[str, int]:
        """The longest sequence of each feature."""
        return {"inputs": int(self.inputs.lengths.max(initial=0)), "targets": int(self.targets.lengths.max(initial=0))}

    def postprocess(self) -> Callable[..., Any]:
        return imported(self.meta["postprocess"]) or _unchanged_text

    def rest(self) -> Rest | None:
        return imported(self.meta["rest"])

    def metrics(self) -> list[Callable[..., dict[str, float]]]:
        return [function for described in self.meta["metrics"] if (function := imported(described))]


def target_pieces(cache: TokenCache) -> np.ndarray:
    """The token ids that the right texts of a task hold, EOS among them, ascending."""
    found: set[int] = set()
    for start in range(0, len(cache), EXAMPLES):
        tokens, _ = cache.targets.take(np.arange(start, min(start + EXAMPLES, len(cache))))
        found |= set(np.unique(tokens).tolist())
    return np.array(sorted(found))


def load(
    task: str,
    split: str,
    task_module: str = "tasks",
    data_dir: str | None = None,
    use_cached: bool = False,
    seqio_additional_cache_dirs: Sequence[str] = (),
) -> TokenCache:
    """The tokens of a task's split, made first where they are missing or older than what they were made from.

    use_cached makes them from what seqio_cache_tasks wrote into one of seqio_additional_cache_dirs, without the task's
    data; a task without a place for caching is made from its data all the same, as SeqIO does it.
    """
    asked = _asked(task_module, data_dir, [_absolute(d) for d in seqio_additional_cache_dirs] if use_cached else None)
    # Another question has another folder: two processes that ask differently do not replace each other's tokens.
    question = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    folder = cache_root() / "tokens" / task / f"{split}-{question}"
    if not _fresh(folder / "meta.json", asked):
        _build(task, split, asked, folder)
    return TokenCache(folder)


def newest(task: str, split: str) -> TokenCache | None:
    """The tokens that were made last of a task's split, with whatever settings; None where there are none."""
    made = (cache_root() / "tokens" / task).glob(f"{split}-{'?' * 8}/meta.json")
    last = max(made, key=lambda meta: meta.stat().st_mtime, default=None)
    return last and TokenCache(last.parent)


def task_names(mixture_or_task: str, task_module: str = "tasks") -> list[str]:
    """The tasks of a mixture, or the task itself; remembered, so that the next run asks without TensorFlow."""
    memory = cache_root() / "mixtures" / f"{mixture_or_task}.json"
    asked = _asked(task_module, None)
    if _fresh(memory, asked):
        return json.loads(memory.read_text())["tasks"]
    provider = _provider(mixture_or_task, task_module)
    names = sorted(t.name for t in provider.tasks) if hasattr(provider, "tasks") else [mixture_or_task]
    remembered = {"format": FORMAT, "tasks": names, "asked": asked, "sources": _sources(task_module)}
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(memory) as scratch:
            scratch.write_text(json.dumps(remembered))
    except OSError as e:
        raise _unwritable(memory, e) from e
    return names


def _asked(task_module: str, data_dir: str | None, offline_caches: list[str] | None = None) -> dict[str, Any]:
    """What the user's settings say of a task beside its name: with others, the same name means other tokens."""
    return {
        "module": task_module,
        "data_dir": data_dir or os.environ.get("TFDS_DATA_DIR") or None,
        "t5_vocabulary": os.environ.get("EXPLAINFT_T5_VOCAB"),
        "offline_caches": offline_caches,  # the folders where one must be; None: made from the task's data
    }


def _absolute(folder: str) -> str:
    """The same relative name from elsewhere is another folder; a bucket has one name."""
    return folder if "://" in folder else str(Path(folder).expanduser().absolute())


def _fresh(memory: Path, asked: dict[str, Any]) -> bool:
    """Whether the file was written for the same question from the same sources."""
    try:
        known = json.loads(memory.read_text())
        return known["format"] == FORMAT and known["asked"] == asked and _unchanged(known["sources"])
    except (OSError, ValueError, KeyError):
        return False  # absent, or damaged and to be made again


def _unchanged(sources: dict[str, str]) -> bool:
    # A file that is absent cannot have made anything newer: caches travel to machines without the dataset or SeqIO.
    found = {_found(name): digest for name, digest in sources.items()}
    return all(not path.is_file() or _digest(path) == digest for path, digest in found.items())


def _found(source: str) -> Path:
    """The file that a name of `_code_name`, or a path, stands for in this process."""
    module, colon, below = source.partition(":")
    root = _root(module) if colon else None
    return Path(source) if root is None else root / below


def _code_name(path: Path, task_module: str) -> str:
    """`module:path below the folder that it is imported from`: another checkout is held against its own files."""
    own = task_module.partition(".")[0]
    for module in ("tasks", "explainft", own):
        root = _root(module)
        if root is not None and path.is_relative_to(root if module == own else root / module):
            return f"{module}:{path.relative_to(root)}"
    return str(path)


def _root(module: str) -> Path | None:
    """The folder that a top-level module would be imported from; nothing is imported."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = spec and (spec.submodule_search_locations or [spec.origin])
    return Path(next(iter(places)) or "").parent if places else None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _provider(name: str, task_module: str) -> Any:
    tensorflow_setup.import_tensorflow()
    import seqio

    try:
        importlib.import_module(task_module)
    except ModuleNotFoundError as e:
        raise UserError(
            f"MIXTURE_OR_TASK_MODULE={task_module!r} cannot be imported ({e}); name an importable module"
        ) from e
    known = set(seqio.TaskRegistry.names()) | set(seqio.MixtureRegistry.names())
    if name not in known:
        raise UserError(f"unknown task or mixture {name!r}{nearest(name, known)}")
    return seqio.get_mixture_or_task(name)


def _sources(task_module: str, *files: str) -> dict[str, str]:
    """What the tasks are made from, by name: code, that of the problem too, and files that it comes with."""
    code = sys.modules[task_module].__file__
    assert code is not None
    own = task_module.partition(".")[0]
    alone = not hasattr(sys.modules[own], "__path__")  # a plain module, in a folder that may hold anything else too
    found = []
    for name, module in list(sys.modules.items()):
        top, path = name.partition(".")[0], Path(getattr(module, "__file__", None) or "")
        beside = alone and path.is_relative_to(Path(code).parent) and INSTALLED.isdisjoint(path.parts)
        if top == own or (beside and top not in {"explainft", *sys.stdlib_module_names}):
            found.append(path)
    for package in (listops, sys.modules.get("tasks", listops)):
        found += Path(package.__file__ or "").parent.glob("*.py")
    return {_code_name(path, task_module): _digest(path) for path in [*found, *map(Path, files)] if path.is_file()}


def _build(name: str, split: str, asked: dict[str, Any], folder: Path) -> None:
    tensorflow_setup.import_tensorflow()
    import seqio
    import tensorflow as tf

    if asked["data_dir"] is not None:
        seqio.set_tfds_data_dir_override(asked["data_dir"])
    task_module = asked["module"]
    task = _provider(name, task_module)
    if not isinstance(task, seqio.Task):
        raise UserError(
            f"{name!r} is a mixture; this engine trains on one task: name one of {[t.name for t in task.tasks]}"
        )
    if split not in task.splits:
        raise UserError(f"task {name!r} has no split {split!r}{nearest(split, task.splits)}")
    offline = _offline_cache(task, split, asked)
    # A folder of its own, renamed when it is whole: two runs may build the same cache at once.
    scratch = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.incomplete")
    try:
        vocabulary = _shared_vocabulary(task)
        scratch.mkdir(parents=True)
        _copy(vocabulary.sentencepiece_model_file, scratch / "vocabulary.model")
        _write_examples(task, split, scratch, bool(offline))
        meta = {
            "format": FORMAT,
            "task": name,
            "split": split,
            "asked": asked,
            "extra_ids": vocabulary.extra_ids,
            "postprocess": _describe(task.postprocessor),
            "rest": _describe(_rests.get(name)),
            "metrics": [_describe(metric) for metric in task.predict_metric_fns],
            "sources": _sources(task_module, vocabulary.sentencepiece_model_file)
            | {str(path): _digest(path) for path in offline or _data_files(task, split) if path.is_file()},
        }
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        try:
            if not _fresh(folder / "meta.json", asked):  # else somebody was faster with the same, and may read it now
                # The old one is moved away, not emptied: a run that trains on it keeps its files open.
                if folder.exists():
                    folder.rename(scratch.with_suffix(".old"))
                scratch.rename(folder)
        except OSError:
            if not _fresh(folder / "meta.json", asked):  # nobody was faster between the question and the renaming
                raise
    except OSError as e:
        raise _unwritable(folder, e) from e
    except tf.errors.OpError as e:
        raise UserError(f"task {name!r} cannot be read ({' '.join(e.message.split())}); mend it or its files") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(scratch.with_suffix(".old"), ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write the token cache {path} ({error.strerror}); set EXPLAINFT_CACHE_DIR to a writable folder"
    )


def _offline_cache(task: Any, split: str, asked: dict[str, Any]) -> list[Path]:
    """The files that describe what seqio_cache_tasks wrote for the split; none where it is not asked for."""
    import seqio
    import tensorflow as tf

    dirs = asked["offline_caches"]
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
    looked_in = ", ".join(seqio.get_global_cache_dirs()) or "any folder: --seqio_additional_cache_dirs names none"
    command = f"seqio_cache_tasks --tasks={task.name} --output_cache_dir={dirs[0] if dirs else 'FOLDER'}"
    data_dir = f" --tfds_data_dir={asked['data_dir']}" if asked["data_dir"] else ""
    raise UserError(
        f"USE_CACHED_TASKS=True, but split {split!r} of task {task.name!r} is not cached in {looked_in}; "
        f"run: {command} --module_import={asked['module']}{data_dir}, or set it to False"
    )


def _write_examples(task: Any, split: str, folder: Path, use_cached: bool) -> None:
    import tensorflow as tf

    dataset = task.get_dataset(sequence_length=None, split=split, shuffle=False, use_cached=use_cached)
    # Of an offline cache without asking the source, whose data need not be there.
    n = task.get_cached_stats(split)["examples"] if use_cached else task.num_input_examples(split)
    if split == "train":  # nobody scores it: its other fields are not kept
        dataset = dataset.map(lambda example: {feature: example[feature] for feature in FEATURES})
    with contextlib.ExitStack() as files:
        write = {feature: files.enter_context(ragged.writer(folder, feature)) for feature in FEATURES}
        records = files.enter_context(open(folder / "records.jsonl", "w", encoding="utf-8"))
        bar = files.enter_context(tqdm(total=n, desc=f"tokens of {task.name}", unit=" examples", disable=None))
        for batch in dataset.ragged_batch(BATCH):
            bar.update(int(batch["inputs"].shape[0]))
            for feature in FEATURES:
                rows = batch.pop(feature)
                if isinstance(rows, tf.Tensor):  # all of one length, which the task tells
                    rows = tf.RaggedTensor.from_tensor(rows)  # pyright: ignore[reportAttributeAccessIssue] (decorated)
                write[feature](rows.values.numpy(), rows.row_lengths().numpy())
            columns = {key: _plain(values.numpy()) for key, values in batch.items()}
            for fields in zip(*columns.values(), strict=True):
                records.write(json.dumps(dict(zip(columns, fields, strict=True))) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _shared_vocabulary(task: Any) -> Any:
    """What T5 needs of a task's features: inputs and targets, in pieces of one SentencePiece model."""
    import seqio

    missing = [feature for feature in FEATURES if feature not in task.output_features]
    if missing:
        raise UserError(f"task {task.name!r} has no output feature {missing[0]!r}; T5 needs inputs and targets")
    inputs, targets = (task.output_features[feature].vocabulary for feature in FEATURES)
    if not isinstance(inputs, seqio.SentencePieceVocabulary):
        raise UserError(
            f"task {task.name!r} has a {type(inputs).__name__}; give its features a SentencePieceVocabulary"
        )
    if inputs != targets:
        raise UserError(f"task {task.name!r} has two vocabularies; T5 shares one between inputs and targets")
    inputs.load_model()  # where its file is missing, this tells
    return inputs


def _copy(source: str, destination: Path) -> None:
    import tensorflow as tf

    tf.io.gfile.copy(source, str(destination))  # the source may lie in a bucket


def _data_files(task: Any, split: str) -> list[Path]:
    """What changes with the data. A function that makes examples does not tell what it reads."""
    import seqio

    loader = getattr(task.source, "tfds_dataset", None)
    if loader is not None:
        return [Path(str(loader.builder.data_path)) / "dataset_info.json"]
    return (
        [Path(file) for file in task.source.list_shards(split)] if isinstance(task.source, seqio.FileDataSource) else []
    )


def _describe(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    """A function as module, name and keyword arguments, for a process that does not import SeqIO."""
    if function is None:
        return None
    kwargs: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        if function.args:
            raise UserError(f"{function!r} has arguments without a name; give those of a task's functions by name")
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    module, name = inspect.getmodule(function), getattr(function, "__qualname__", "")
    if module is None or getattr(module, name, None) is not function:
        raise UserError(f"{function!r} is no function of a module; functions of a task must be importable by name")
    try:
        json.dumps(kwargs)
    except TypeError as e:
        raise UserError(f"{name} of a task has arguments that cannot be kept ({e}); give numbers and texts") from e
    return {"module": module.__name__, "name": name, "kwargs": kwargs}


def _unchanged_text(text: str, **_: Any) -> str:
    return text


def imported(described: dict[str, Any] | None) -> Callable[..., Any] | None:
    """The function that a task's meta, or a run's, describes. Raises UserError where it cannot be imported."""
    if not described:
        return None
    module, name = described["module"], described["name"]
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise UserError(f"the task needs {name} of {module} ({e}); run where that module can be imported") from e
    return functools.partial(function, **described["kwargs"])
