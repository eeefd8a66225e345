"""gin-config 0.5 as recipes use it: the only module that touches gin's private state.

gin keeps one configuration in each process. A `State` is a copy of one; `activate` makes it gin's own again.
"""

import contextlib
import dataclasses
import importlib.util  # noqa: F401  gin 0.5.0 uses it without importing it
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config as gin_config

Resolve = Callable[[str], Path | None]


@dataclasses.dataclass(frozen=True)
class Binding:
    """An argument of a configurable that a recipe sets. `value`: as bound, so that a macro is a reference."""

    configurable: str  # its registered name, without a module
    function: Callable[..., Any]
    parameter: str
    value: Any


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The bindings of one parsed configuration, and the imports that its text needs."""

    config: dict[tuple[str, str], dict[str, Any]]
    imports: frozenset[Any]

    @property
    def macros(self) -> dict[str, Any]:
        """Maps the names of macros to their values as written, which may be references to other macros."""
        return {scope: bound["value"] for (scope, selector), bound in self.config.items() if selector == "gin.macro"}

    @property
    def bindings(self) -> list[Binding]:
        """Lists every bound argument but those of macros."""
        return [
            Binding(gin_config._REGISTRY[selector].name, gin_config._REGISTRY[selector].wrapped, parameter, value)
            for (_, selector), bound in self.config.items()
            if selector != "gin.macro"
            for parameter, value in bound.items()
        ]

    @property
    def selectors(self) -> set[str]:
        """Returns the full names of the configurables that are bound."""
        return {selector for _, selector in self.config}

    @property
    def read_macros(self) -> set[str]:
        """Returns the names of the macros that any binding refers to, also inside lists and dictionaries."""
        references = gin_config.iterate_references(self.config, to=gin.get_configurable(gin_config.macro))
        return {reference.config_key[0] for reference in references}


def parse_files(files: Sequence[Path], resolve: Resolve) -> State:
    """Parses files one over the other, which replaces gin's configuration. Raises gin's and Python's own errors.

    `resolve` maps the path of a file or of an include to the file that is read, or to None.
    """
    gin.clear_config()
    _active.clear()
    with _reads(resolve):
        for file in files:
            gin.parse_config_file(str(file))
    return current()


def parse_bindings(bindings: Sequence[str], resolve: Resolve) -> State:
    """Parses bindings over what `parse_files` has read. Raises gin's and Python's own errors."""
    with _reads(resolve):
        gin.parse_config(list(bindings))
    state = current()
    _active[:] = [state]
    return state


_active: list[State] = []  # the state that gin has now, if it is one that was returned here


def activate(state: State) -> None:
    """Makes a state gin's configuration, unless it is already."""
    if _active and _active[0] is state:
        return
    gin.clear_config()
    gin_config._CONFIG.update({key: dict(bound) for key, bound in state.config.items()})
    gin_config._IMPORTS.update(state.imports)
    _active[:] = [state]


def configurable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with the arguments of the active configuration."""
    return gin.get_configurable(function)


def bound_arguments(function: Callable[..., Any] | str) -> dict[str, Any]:
    """Returns the arguments that the active configuration binds to a function or its full name, references called."""
    name = function if isinstance(function, str) else gin.get_configurable(function)
    return gin.get_bindings(name, resolve_references=True)


def operative_config() -> str:
    """Returns the bindings that were used since the configuration became active, as gin text."""
    return gin.operative_config_str()


def is_reference(value: Any) -> bool:
    """Returns whether a value is `@name`, `@name()` or `%NAME`."""
    return isinstance(value, gin_config.ConfigurableReference)


def is_macro(value: Any) -> bool:
    """Returns whether a value is `%NAME`; its name is `macro_name(value)`."""
    return is_reference(value) and value.config_key[1] == "gin.macro"


def is_object(value: Any) -> bool:
    """Returns whether a value is `@name()`: what a call of the configurable returns."""
    return is_reference(value) and not is_macro(value) and value.evaluate


def is_required(value: Any) -> bool:
    """Returns whether a value is `%gin.REQUIRED`."""
    return is_reference(value) and value.config_key[0] == "gin.REQUIRED"


def macro_name(value: Any) -> str:
    """Returns the NAME of a value for which `is_macro` holds."""
    return value.config_key[0]


def referenced(value: Any) -> tuple[str, Callable[..., Any], bool]:
    """Returns the registered name of a reference, what it refers to, and whether it is called: `@name` or `@name()`."""
    entry = gin_config._REGISTRY[value.config_key[1]]
    return entry.name, entry.wrapped, value.evaluate


def current() -> State:
    """Returns a copy of gin's configuration."""
    config = {key: dict(bound) for key, bound in gin_config._CONFIG.items()}
    return State(config, frozenset(gin_config._IMPORTS))


@contextlib.contextmanager
def _reads(resolve: Resolve) -> Iterator[None]:
    """Lets `resolve` alone find files: gin would look in the current directory first."""

    def open_found(path: str) -> Any:
        found = resolve(path)
        assert found is not None
        return open(found, encoding="utf-8-sig")

    all_readers: list[Any] = gin_config._FILE_READERS
    readers, prefixes = all_readers[:], gin_config._LOCATION_PREFIXES[:]
    all_readers[:] = [(open_found, lambda path: resolve(path) is not None)]
    gin_config._LOCATION_PREFIXES[:] = [""]
    try:
        yield
    finally:
        all_readers[:], gin_config._LOCATION_PREFIXES[:] = readers, prefixes
