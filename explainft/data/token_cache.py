"""A task's examples as token ids on disk: SeqIO makes them once, every later run maps them without TensorFlow."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError
from explainft.core.jax_setup import cache_root
from explainft.data import few_shot, freshness, ragged, tokenize
from explainft.data.coverage import Coverage
from explainft.data.label_rows import labels_of, left_out_line
from explainft.data.multitask import Context
from explainft.data.target_parts import ANSWER, EXPLANATION, TARGET_PARTS, prefix_lengths
from explainft.data.task_registry import Iterative, import_function
from explainft.data.tokenize import FEATURES
from explainft.data.vocabulary import Vocabulary

EXAMPLES = 2**14  # read at a time

Record = dict[str, Any]  # the fields of an example beside its tokens, for postprocessing and metrics


class TokenCache:
    """One split of one task: `inputs` and `targets` as token ids, EOS included, nothing cut; what metrics need."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.meta: dict[str, Any] = json.loads((directory / "meta.json").read_text())
        self.task: str = self.meta["task"]
        self.split: str = self.meta["split"]
        self.inputs, self.targets = (ragged.Ragged(directory, feature) for feature in FEATURES)
        has_parts = (directory / f"{TARGET_PARTS}.starts").is_file()
        self.target_parts = ragged.Ragged(directory, TARGET_PARTS) if has_parts else None  # see data/target_parts.py
        self.vocabulary = Vocabulary(directory / "vocabulary.model", self.meta["extra_ids"], self.meta["replacement"])
        with open(directory / "records.jsonl", encoding="utf-8") as lines:
            self.records: list[Record] = [json.loads(line) for line in lines]  # none for the split "train"

    def __len__(self) -> int:
        return len(self.inputs)

    def require_texts(self) -> None:
        """Raises UserError for a split that cannot be scored, before it is decoded."""
        if len(self.records) != len(self) or not self.records:
            why = "has no examples" if not len(self) else "is kept as tokens alone, without the texts to score"
            raise UserError(f"split {self.split!r} of {self.task} {why}; name another split")

    def lengths(self) -> dict[str, int]:
        """Returns the number of tokens of each feature's longest sequence, and of the shortest input; EOS included."""
        longest = {feature: int(getattr(self, feature).lengths.max(initial=0)) for feature in FEATURES}
        return {**longest, "min_inputs": int(self.inputs.lengths.min(initial=longest["inputs"]))}

    def lost(self) -> list[str]:
        """Returns a line for each feature whose texts the vocabulary cannot write, or changes."""
        counted = {name: Coverage(**counts) for name, counts in self.meta["coverage"].items()}
        return [line for name, coverage in counted.items() if (line := coverage.line(f"{name} of {self.split}"))]

    def unexplained(self) -> str | None:
        """Returns a line on examples of a multi-task form that train the answer alone; None where there are none."""
        if self.target_parts is None:
            return None
        parts, lengths = self.target_parts.take(np.arange(len(self)))
        example_of = np.repeat(np.arange(len(self)), lengths)
        answers, explanations = (len(np.unique(example_of[parts == part])) for part in (ANSWER, EXPLANATION))
        if not 0 < explanations < answers:
            return None
        missing = f"{answers - explanations:,} of {answers:,} examples of {self.split}"
        return f"{missing} have no explanation: they train the answer alone"

    def demonstrations(self) -> str | None:
        """Returns a line on the demonstrations of a few-shot task; None for other tasks."""
        found = self.meta.get("demonstrations")
        return found and few_shot.report_counts(found, f"{self.task} {self.split}")

    def postprocess(self) -> Callable[..., Any]:
        return import_function(self.meta["postprocess"]) or _unchanged_text

    def iterative(self) -> Iterative | None:
        return Iterative.from_meta(self.meta["next_input"])

    def labels(self) -> list[tuple[str, ...]] | None:
        """Returns the texts that each target is among; None for a task whose targets may be any."""
        if "labels" not in self.meta:
            return None
        return [labels_of(record, self.meta["labels"]) for record in self.records]

    def num_left_out(self) -> int:
        """Returns the number of rows of a task with labels that cannot be scored: this cache lacks them."""
        return sum(map(len, self.meta.get("left_out", {}).values()))

    def left_out(self) -> list[str]:
        """Returns a line for each reason why rows of a task with labels are left out."""
        n, found = len(self) + self.num_left_out(), self.meta.get("left_out", {})
        return [f"{self.task}: {left_out_line(reason, rows, n)}" for reason, rows in found.items()]

    def context(self) -> Context | None:
        """Returns the fixed words of the targets, which outputs are given; None where there are none."""
        words = self.meta.get("context")
        return None if words is None else Context(*words)

    def prefixes(self) -> list[np.ndarray] | None:
        """Returns the context tokens that each target begins with; None for a task without any."""
        if self.target_parts is None:
            return None
        lengths = prefix_lengths(*self.target_parts.take(np.arange(len(self))))
        if not lengths.any():
            return None
        return [self.targets[i][:n] for i, n in enumerate(lengths.tolist())]

    def metrics(self) -> list[Callable[..., dict[str, float]]]:
        return [function for described in self.meta["metrics"] if (function := import_function(described))]


def _unchanged_text(text: str, **_: Any) -> str:
    return text


def target_token_ids(cache: TokenCache) -> np.ndarray:
    """Returns the token ids that the task's targets hold, EOS among them, ascending."""
    ids: set[int] = set()
    for start in range(0, len(cache), EXAMPLES):
        tokens, _ = cache.targets.take(np.arange(start, min(start + EXAMPLES, len(cache))))
        ids |= set(np.unique(tokens).tolist())
    return np.array(sorted(ids))


def load(
    task: str,
    split: str,
    task_module: str = "tasks",
    data_dir: str | None = None,
    use_cached: bool = False,
    seqio_additional_cache_dirs: Sequence[str] = (),
    vocabulary_file: str | None = None,
    input_lengths: Mapping[str, int] | None = None,
) -> TokenCache:
    """Returns the tokens of a task's split, which are built first where they are missing or stale.

    `split` is SeqIO's name. use_cached makes them from what seqio_cache_tasks wrote into one of
    seqio_additional_cache_dirs, without the task's data; a task without a place for caching is made from its data all
    the same, as SeqIO does it. `vocabulary_file` is a SentencePiece model in place of the task's own vocabulary.
    `input_lengths` are those that the prompts of few-shot tasks must fit, by task.
    """
    offline_caches = [_absolute(d) for d in seqio_additional_cache_dirs] if use_cached else None
    settings = freshness.task_settings(task_module, data_dir, offline_caches, vocabulary_file)
    settings |= {"input_length": length} if (length := (input_lengths or {}).get(task)) else {}
    # A directory for each: two processes with other settings do not replace each other's tokens.
    directory = cache_root() / "tokens" / task / f"{split}-{_digest(settings)}"
    if not freshness.is_fresh(directory / "meta.json", settings):
        tokenize.build(task, split, settings, directory)
    return TokenCache(directory)


def newest(task: str, split: str) -> TokenCache | None:
    """Returns the tokens that were built last of a task's split, with whatever settings; None where there are none."""
    built = (cache_root() / "tokens" / task).glob(f"{split}-{'?' * 8}/meta.json")
    last = max(filter(freshness.has_format, built), key=lambda meta: meta.stat().st_mtime, default=None)
    return last and TokenCache(last.parent)


def is_registered(mixture_or_task: str, task_module: str, data_dir: str | None = None) -> bool:
    """Returns whether the module registers a task or mixture of that name."""
    settings = freshness.task_settings(task_module, data_dir)
    if freshness.is_fresh(_names_file(mixture_or_task, task_module, settings), settings):
        return True
    return mixture_or_task in tokenize.registered_names(task_module, settings["data_dir"], mixture_or_task)


def task_names(mixture_or_task: str, task_module: str = "tasks", data_dir: str | None = None) -> list[str]:
    """Returns the tasks of a mixture, or the task itself; kept on disk, so that the next run needs no TensorFlow."""
    settings = freshness.task_settings(task_module, data_dir)
    file = _names_file(mixture_or_task, task_module, settings)
    if freshness.is_fresh(file, settings):
        return json.loads(file.read_text())["tasks"]
    provider = tokenize.get_task_or_mixture(mixture_or_task, task_module, settings["data_dir"])
    tasks = sorted(getattr(provider, "tasks", [provider]), key=lambda task: task.name)
    names = [task.name for task in tasks]
    files = {str(file) for task in tasks for file in tokenize.descriptor_files(task)}
    sources = freshness.task_sources(task_module, *files)
    meta = {"format": freshness.FORMAT, "tasks": names, "settings": settings, "sources": sources}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as scratch:
            scratch.write_text(json.dumps(meta))
    except OSError as e:
        raise tokenize.unwritable(file, e) from e
    return names


def _names_file(mixture_or_task: str, task_module: str, settings: dict[str, Any]) -> Path:
    return cache_root() / "mixtures" / task_module / f"{mixture_or_task}-{_digest(settings)}.json"


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _absolute(directory: str) -> str:
    """Returns a name that means the same from any working directory; a bucket has one name."""
    return directory if "://" in directory else str(Path(directory).expanduser().absolute())
