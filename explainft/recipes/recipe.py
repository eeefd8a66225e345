"""A recipe of the built-in engine: gin files and bindings, read once, checked, and kept apart from other recipes."""

import ast
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

from explainft.core.errors import UserError, nearest
from explainft.recipes import gin_adapter, value_types
from explainft.recipes.gin_adapter import State

PACKAGED = Path(__file__).parent  # contains gin/, the recipes
WIRING = PACKAGED / "wiring"
T5X_WIRING = "gin/t5x/"  # its files stand for those of WIRING here
COMMANDS = {  # what a recipe for the command binds, and one that does
    "train": ("explainft.training.train.train", "gin/medium_tiny.gin"),
    "plan": ("explainft.training.train.train", "gin/medium_tiny.gin"),
    "eval": ("explainft.evaluation.evaluate.evaluate", "gin/eval_tiny.gin"),
    "infer": ("explainft.evaluation.infer.write_inferences", "gin/infer_tiny.gin"),
    "sweep": ("explainft.sweeps.sweep.Sweep", "experiments/sizes.gin"),
    "pipeline": ("explainft.sweeps.pipeline.Pipeline", "experiments/pipelines/sequential.gin"),
    "transfer": ("explainft.transfer.settings.Transfer", "experiments/transfer/shipped.gin"),
}
OUTPUT_MACROS = ("MODEL_DIR", "EVAL_OUTPUT_DIR", "INFER_OUTPUT_DIR")  # where outputs go changes no result


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Parsed gin files. Several recipes may be in use, one after the other; gin itself has one in each process."""

    files: tuple[str, ...]
    _state: State

    @property
    def macros(self) -> dict[str, Any]:
        """Maps the names of macros to their values; a macro that stands for another has its value."""
        return {name: _resolve(value, self._state.macros) for name, value in self._state.macros.items()}

    def build(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with the arguments that the recipe binds."""
        gin_adapter.activate(self._state)
        return gin_adapter.configurable(function)

    def bindings(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Returns the arguments that the recipe binds, with the objects that they refer to built."""
        gin_adapter.activate(self._state)
        return gin_adapter.bound_arguments(function)

    def config_text(self) -> str:
        """Returns the settings that were read so far, as gin text."""
        gin_adapter.activate(self._state)
        return gin_adapter.operative_config()

    def settings(self) -> list[str]:
        """Returns the macros that are not at the default of what they fill, as sorted lines `NAME = JSON`.

        An argument that is bound without a macro is `Class.argument`; references are registered names without a module.
        So neither a moved module nor a setting that the engine learns later changes a line.
        """
        values: dict[str, Any] = {}
        at_default: dict[str, bool] = {}
        wiring = _wiring_bindings()
        for binding in self._state.bindings:
            if gin_adapter.is_macro(binding.value):
                name = gin_adapter.macro_name(binding.value)
                if (name, "", _as_json(self.macros[name])) in wiring:
                    continue
            elif (binding.configurable, binding.parameter, _as_json(binding.value)) in wiring:
                continue
            else:
                name = f"{binding.configurable}.{binding.parameter}"
            values[name] = _resolve(binding.value, self._state.macros)
            default = value_types.parameter(binding.function, binding.parameter).default
            at_default[name] = at_default.get(name, True) and _is_default(values[name], default)
        return [
            f"{name} = {_as_json(value)}"
            for name, value in sorted(values.items())
            if not at_default[name] and name not in OUTPUT_MACROS
        ]

    def hash(self, *more: str) -> str:
        """Returns 16 hexadecimal digits of the settings and of `more`."""
        return hashlib.sha256("\n".join([*self.settings(), *more]).encode()).hexdigest()[:16]


def load(
    files: Sequence[str], bindings: Sequence[str], search_paths: Sequence[str] = (), command: str | None = None
) -> Recipe:
    """Reads recipes, overrides them with bindings (`NAME=value`), and checks every value.

    An include of gin/t5x/ reads the engine's wiring. Any other path is searched for in the current directory, beside
    the recipe's gin/ directory, in `search_paths`, and among the recipes of the package. Raises UserError, also for
    recipes that are not for the `command`.
    """
    paths = find_files(files)
    roots = [Path.cwd(), *(path.parent.parent for path in paths), *map(Path, search_paths), PACKAGED]
    resolve = functools.partial(_find, roots)
    try:
        of_files = gin_adapter.parse_files(paths, resolve)
        if command is not None:
            _check_command(of_files, command)
        state = gin_adapter.parse_bindings([quote_bare_words(binding) for binding in bindings], resolve)
    except (ValueError, SyntaxError, OSError, ImportError, TypeError, AttributeError, RuntimeError, TokenError) as e:
        line = e.line if isinstance(e, UserError) else " ".join(str(e).split())[:400] or type(e).__name__
        raise UserError(f"recipe {', '.join(files)}: {line}") from e
    _check_macros(state, of_files.read_macros)
    _check_values(state)
    if command is not None:
        # Configurations refuse what is out of range when they are built.
        gin_adapter.bound_arguments(COMMANDS[command][0])
    return Recipe(tuple(files), state)


def find_files(files: Sequence[str]) -> list[Path]:
    """Returns the recipes' absolute paths, of the current directory or of the package. Raises UserError."""
    found = []
    for file in files:
        path = next((path for path in (Path(file), PACKAGED / file) if path.is_file()), None)
        if path is None:
            raise UserError(f"no recipe {file!r} in {Path.cwd()} or in the package; `explainft recipes` lists those")
        found.append(path.absolute())
    return found


def quote_bare_words(binding: str) -> str:
    """Returns `NAME=value` as gin reads it: a bare word becomes a string, which saves quotes inside quotes."""
    name, equals, value = binding.partition("=")
    if not equals:
        raise UserError(f"--gin.{binding} lacks a value; write --gin.{name}=VALUE")
    value = value.strip()
    if not value:
        raise UserError(f"--gin.{name}= has no value; an unset shell variable? Write --gin.{name}=VALUE")
    if value[:1] in ("@", "%"):
        return f"{name} = {value}"
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        value = repr(value)
    return f"{name} = {value}"


def _find(roots: Sequence[Path], path: str) -> Path | None:
    if path.startswith(T5X_WIRING):
        candidates = [WIRING / path.removeprefix(T5X_WIRING)]
    else:
        candidates = [root / path for root in roots]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@functools.cache
def _wiring_bindings() -> frozenset[tuple[str, str, str]]:
    """Returns what is the wiring's own and no setting: (configurable, parameter, JSON); of an object (macro, "", JSON).

    OPTIMIZER, a function and not an object, is a setting: it differs between fine-tuning and pre-training.
    """
    found = set()
    for file in WIRING.glob("*.gin"):
        state = gin_adapter.parse_files([file], functools.partial(_find, [PACKAGED]))
        found |= {(b.configurable, b.parameter, _as_json(b.value)) for b in state.bindings}
        found |= {(name, "", _as_json(value)) for name, value in state.macros.items() if gin_adapter.is_object(value)}
    return frozenset(found)


def _check_command(state: State, command: str) -> None:
    target, example = COMMANDS[command]
    if target in state.selectors:
        return
    other = next((f" but `explainft {name}`" for name, (bound, _) in COMMANDS.items() if bound in state.selectors), "")
    raise UserError(f"it does not configure `explainft {command}`{other}; give one such as {example}")


def _resolve(value: Any, macros: dict[str, Any]) -> Any:
    """Returns what a macro stands for, which may be another macro. The macros must be defined and without a cycle."""
    while gin_adapter.is_macro(value):
        value = macros[gin_adapter.macro_name(value)]
    return value


def _check_macros(state: State, read_by_files: set[str]) -> None:
    """Refuses macros that nothing reads, that are read but not set, and that stand for themselves: gin does not.

    `read_by_files`: a binding of the command line may have taken a macro's place.
    """
    defined, read = state.macros, state.read_macros
    for name in defined:
        if name not in read | read_by_files:
            raise UserError(f"nothing reads the macro {name}{nearest(name, read) or '; these files read none'}")
    for name in defined:
        chain = [name]
        while gin_adapter.is_macro(value := defined.get(chain[-1])):
            if (following := gin_adapter.macro_name(value)) in chain:
                raise UserError(f"{' = %'.join([*chain, following])} is a cycle; give --gin.{name}=VALUE")
            chain.append(following)
    missing = [name for name in sorted(read) if name not in defined or gin_adapter.is_required(defined[name])]
    if missing:
        raise UserError(f"the recipe needs a value for {', '.join(missing)}; give --gin.{missing[0]}=VALUE")


def _check_values(state: State) -> None:
    """Refuses values that do not suit the annotation of the argument that they fill."""
    for binding in state.bindings:
        value, name = binding.value, f"{binding.configurable}.{binding.parameter}"
        if gin_adapter.is_macro(value):
            value, name = _resolve(value, state.macros), gin_adapter.macro_name(value)
        value_types.check(name, value, binding.function, binding.parameter)


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _as_json(value: Any) -> str:
    def name(reference: Any) -> str:
        registered, _, called = gin_adapter.referenced(reference)
        return f"@{registered}{'()' if called else ''}"

    return json.dumps(value, sort_keys=True, default=name)
