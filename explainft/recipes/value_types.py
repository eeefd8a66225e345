"""Whether a recipe's value suits the annotation of the argument that it fills."""

import collections.abc
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Union

from explainft.core.errors import UserError
from explainft.recipes import gin_adapter

MAX_INTEGER = 2**32 - 1  # seeds and sizes; steps and token ids have 31 bits


def parameter(function: Callable[..., Any], name: str) -> inspect.Parameter:
    """Returns a parameter of a function or of a class, which gin has checked to exist."""
    return inspect.signature(function).parameters[name]


def check(name: str, value: Any, function: Callable[..., Any], argument: str) -> None:
    """Refuses a value for `function(argument=value)`. Raises UserError, which names the value `name`."""
    annotation = _annotations(function).get(argument, Any)
    if not _suits(value, annotation):
        raise UserError(f"{name}={_shown(value)} must be {_described(annotation)}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        limit = f"at most {MAX_INTEGER:,}" if value > 0 else f"at least {-MAX_INTEGER:,}"
        raise UserError(f"{name}={_shown(value)} must be {limit}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}={value!r} must be finite")


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):  # of a module that the recipe names and that is not ours
        return {}


def _suits(value: Any, annotation: Any) -> bool:
    if annotation in (Any, object, inspect.Parameter.empty):
        return True
    if annotation in (None, types.NoneType):
        return value is None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_suits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if gin_adapter.is_reference(value):
        _, target, called = gin_adapter.referenced(value)
        if not called:
            return origin is collections.abc.Callable
        wanted = origin or annotation
        return not inspect.isclass(target) or not inspect.isclass(wanted) or issubclass(target, wanted)
    if origin is collections.abc.Callable:
        return callable(value)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or annotation
    if not inspect.isclass(kind):
        return True
    if issubclass(kind, dict) and isinstance(value, dict):
        return not arguments or all(
            _suits(key, arguments[0]) and _suits(item, arguments[1]) for key, item in value.items()
        )
    if kind in (tuple, list, collections.abc.Sequence) and arguments:
        return isinstance(value, tuple | list) and all(_suits(item, arguments[0]) for item in value)
    return isinstance(value, kind)


def _described(annotation: Any) -> str:
    names: dict[Any, str] = {
        int: "an integer", float: "a number", str: "a string", bool: "True or False", types.NoneType: "None",
    }  # fmt: skip
    if annotation in names:
        return names[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is collections.abc.Callable:
        return "a reference to a function, such as @optimizers.adamw"
    if origin is dict:
        return f"a dictionary of {' -> '.join(_described(argument) for argument in arguments)}"
    if origin in (tuple, list, collections.abc.Sequence):
        return f"a tuple of which each item is {_described(arguments[0])}"
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        return f"a reference to an object, such as @{annotation.__module__.rpartition('.')[2]}.{annotation.__name__}()"
    return f"of type {getattr(annotation, '__name__', annotation)}"


def _shown(value: Any) -> str:
    """Formats a value on one line: of a long one the start, of a long integer its size."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"{'a negative' if value < 0 else 'an'} integer of {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = str(value) if gin_adapter.is_reference(value) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
