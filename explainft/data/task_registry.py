"""What a task's caches and checkpoints keep of its Python functions: registered names, not code paths.

A function of this package has a name of its own, so that moving a module changes no file on disk. Any other function is
kept as `module:name`.
"""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explainft.core import tensorflow_setup
from explainft.core.errors import UserError
from explainft.data.multitask import Context

NextInput = Callable[[str, str], str | None]

FUNCTIONS = {  # name on disk: where the function is now
    "listops/postprocess": "explainft.evaluation.targets:postprocess_listops",
    "questions/postprocess": "explainft.evaluation.targets:postprocess_question",
    "samples/postprocess": "explainft.evaluation.targets:postprocess_sample",
    "problems/score": "explainft.evaluation.metrics:score",
    "problems/overlap": "explainft.evaluation.overlap:score",
    "samples/label_balance": "explainft.evaluation.metrics:label_balance",
}
_NAMES = {path: name for name, path in FUNCTIONS.items()}


@dataclasses.dataclass(frozen=True)
class Iterative:
    """How a task is decoded in several rounds; see `register_iterative`."""

    next_input: NextInput
    max_rounds: int

    @classmethod
    def from_meta(cls, described: Mapping[str, Any] | None) -> "Iterative | None":
        """Imports what a task's or a run's meta describes. Raises UserError where it cannot be imported."""
        function = import_function(described)
        return None if function is None or described is None else cls(function, described["max_rounds"])


_iterative: dict[str, Iterative] = {}  # by task


def register_iterative(task: str, next_input: NextInput, max_rounds: int) -> None:
    """Registers a task that is decoded iteratively: a prediction is several outputs, each from its own input.

    `next_input(inputs, output)` returns the input of the next round, or None where the prediction is complete. Where it
    returns `inputs` again, the output is rejected, and the first accepted one of some samples replaces it. Where none
    is accepted, the rejected output stays and is the last. The prediction is all outputs, one per line, at most
    `max_rounds`. `next_input` is a function of a module.
    """
    if max_rounds < 1:
        raise ValueError(f"max_rounds={max_rounds} must be at least 1")
    _iterative[task] = Iterative(next_input, max_rounds)


_labels: dict[str, tuple[str, ...] | None] = {}  # by task


def register_labels(task: str, labels: Sequence[str] | None) -> None:
    """Registers a task whose targets are all among the labels: a prediction is the label of the highest likelihood.

    None: the labels are each example's own, its `choices`, or yes and no where it has none.
    """
    _labels[task] = None if labels is None else tuple(labels)


def describe_labels(task: str) -> dict[str, list[str] | None]:
    """Returns what a task's meta keeps of its labels, as JSON; nothing for other tasks."""
    if task not in _labels:
        return {}
    labels = _labels[task]
    return {"labels": None if labels is None else list(labels)}


_contexts: dict[str, Context] = {}  # by task


def register_context(task: str, context: Context) -> None:
    """Registers a task whose targets have fixed words: its outputs are given them, as they carry no loss."""
    _contexts[task] = context


def describe_context(task: str) -> dict[str, list[str]]:
    """Returns what a task's meta keeps of its fixed words, as JSON; nothing for other tasks."""
    return {"context": list(_contexts[task])} if task in _contexts else {}


def find_iterative(task: str, module: str) -> Iterative:
    """Returns the registration of a task by the module that registers it. Raises UserError where there is none."""
    try:
        tensorflow_setup.import_quietly(module)
    except ImportError as e:
        raise UserError(f"task {task} is registered by {module} ({e}); run where that module can be imported") from e
    if task not in _iterative:
        raise UserError(f"{module} does not register {task} for iterative decoding; call register_iterative there")
    return _iterative[task]


def describe_iterative(task: str) -> dict[str, Any] | None:
    """Returns what a task's meta keeps of its registration, as JSON."""
    registered = _iterative.get(task)
    if registered is None:
        return None
    return {**(describe_function(registered.next_input) or {}), "max_rounds": registered.max_rounds}


def describe_function(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    """Returns a function's name and keyword arguments as JSON, for a process that does not import SeqIO."""
    if function is None:
        return None
    kwargs: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        if function.args:
            raise UserError(f"{function!r} has positional arguments; pass those of a task's functions by keyword")
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    module, name = inspect.getmodule(function), getattr(function, "__qualname__", "")
    if module is None or getattr(module, name, None) is not function:
        raise UserError(f"{function!r} must be a function of a module; functions of a task are imported by name")
    try:
        json.dumps(kwargs)
    except TypeError as e:
        raise UserError(f"{name} of a task has arguments that are not JSON ({e}); pass numbers and strings") from e
    path = f"{module.__name__}:{name}"
    return {"name": _NAMES.get(path, path), "kwargs": kwargs}


def module_of(described: Mapping[str, Any]) -> str | None:
    """Returns the module that a described function is imported from; None for a registered name.

    Raises KeyError for a registered name that is unknown.
    """
    module, colon, _ = described["name"].partition(":")
    if colon:
        return module
    FUNCTIONS[described["name"]]
    return None


def import_function(described: Mapping[str, Any] | None) -> Callable[..., Any] | None:
    """Imports the function that a task's or a run's meta describes. Raises UserError where it cannot be imported."""
    if not described:
        return None
    path = str(FUNCTIONS.get(described["name"], described["name"]))
    module, _, name = path.partition(":")
    try:
        function = getattr(tensorflow_setup.import_quietly(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise UserError(f"the task needs {name} of {module} ({e}); run where that module can be imported") from e
    return functools.partial(function, **described["kwargs"])
