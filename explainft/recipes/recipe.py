"""Gin recipes: parsing them for the built-in engine, and the mistakes that gin itself would swallow."""

import ast
import contextlib
import importlib.util  # noqa: F401  gin 0.5.0 uses it without importing it
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, get_args

import gin
from gin import config as gin_config

from explainft.core.errors import UserError, nearest

WIRING = Path(__file__).parent / "wiring"
OUTPUT_MACROS = ("MODEL_DIR", "EVAL_OUTPUT_DIR", "INFER_OUTPUT_DIR")  # where results go changes no result
COMMANDS = {  # what a recipe for the command binds, and one that does
    "train": ("explainft.training.train.train", "gin/medium_tiny.gin"),
    "plan": ("explainft.training.train.train", "gin/medium_tiny.gin"),
    "eval": ("explainft.evaluation.evaluate.evaluate", "gin/eval_tiny.gin"),
    "infer": ("explainft.evaluation.infer.write_inferences", "gin/infer_tiny.gin"),
    "sweep": ("explainft.sweeps.sweep.Sweep", "experiments/sizes.gin"),
}


def load(
    files: Sequence[str], bindings: Sequence[str], search_paths: Sequence[str] = (), command: str | None = None
) -> None:
    """Parses recipes and then bindings (`NAME=value`) over them.

    A leaf recipe includes `gin/models/...` and `gin/runs/...`. Under T5X these are the repository's own files; here the
    current folder is the engine's wiring while gin parses, so the same paths lead to the engine's files. All else is
    looked for in the caller's folder, beside the recipe's `gin/` folder and in `search_paths`. Raises UserError, also
    for recipes that are not for the `command`.
    """
    paths = existing(files)
    gin.clear_config()
    roots = [Path.cwd(), *(path.parent.parent for path in paths), *map(Path, search_paths)]
    for root in dict.fromkeys(str(root.absolute()) for root in roots):
        gin.add_config_file_search_path(root)
    try:
        with contextlib.chdir(WIRING), _silent_logging():
            gin.parse_config_files_and_bindings([str(path) for path in paths], [], finalize_config=False)
            if command is not None:
                _check_command(command)
            before, read_before = _macros(), _read_macros()
            gin.parse_config([quoted(b) for b in bindings])
    except (ValueError, SyntaxError, OSError, ImportError, TypeError, AttributeError, RuntimeError, TokenError) as e:
        raise UserError(f"recipe {', '.join(files)}: {_one_line(e)}") from e
    _check_macros(read_before)
    _check_types(before)


def existing(files: Sequence[str]) -> list[Path]:
    """The recipes' whole paths. Raises UserError for one that is not there."""
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"no recipe {file!r} in {Path.cwd()}; give --gin_file the path of a .gin file")
    return [Path(file).absolute() for file in files]


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the arguments that the recipe binds."""
    return gin.get_configurable(function)


def bindings(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that the recipe binds, macros and references resolved."""
    return gin.get_bindings(gin.get_configurable(function), resolve_references=True)


def choices() -> str:
    """Returns the recipe's non-default macros and directly bound arguments, a line each, sorted.

    Names are those of macros, or `Class.argument`; values are JSON; references are registered names without a module.
    So neither a moved module nor a setting that the engine learns later changes a hash of it.
    """
    macros, fills_default = {}, {}
    for (_, selector), bound in gin_config._CONFIG.items():
        if selector == "gin.macro":
            continue
        target = gin_config._REGISTRY[selector]
        parameters = inspect.signature(target.wrapped).parameters
        for parameter, raw in bound.items():
            value = _value(raw)
            if _is_macro(raw):
                name = raw.config_key[0]
            elif _is_reference(raw):
                continue  # the wiring's own
            else:
                name = f"{target.name}.{parameter}"
            macros[name] = value
            default = _is_default(value, parameters[parameter].default)
            fills_default[name] = fills_default.get(name, True) and default
    kept = {name: value for name, value in macros.items() if not fills_default[name] and name not in OUTPUT_MACROS}
    return "\n".join(f"{name} = {_as_json(kept[name])}" for name in sorted(kept))


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _as_json(value: Any) -> str:
    def name(reference: Any) -> str:
        suffix = "()" if reference.evaluate else ""
        return f"@{reference.config_key[1].rpartition('.')[2]}{suffix}"

    return json.dumps(value, sort_keys=True, default=name)


def operative() -> str:
    """The settings that were read so far, as a recipe."""
    return gin.operative_config_str()


def quoted(binding: str) -> str:
    """`NAME=value` as gin reads it: a bare word becomes a string, so that nobody needs quotes inside quotes."""
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


def _check_command(command: str) -> None:
    bound = {selector for _, selector in gin_config._CONFIG}
    target, example = COMMANDS[command]
    if target not in bound:
        other = next((f" but `explainft {name}`" for name, (their, _) in COMMANDS.items() if their in bound), "")
        raise UserError(f"it does not configure `explainft {command}`{other}; give one such as {example}")


def _macros() -> dict[str, Any]:
    config = gin_config._CONFIG  # no public way leads to the bindings
    return {scope: bound["value"] for (scope, selector), bound in config.items() if selector == "gin.macro"}


def _value(value: Any) -> Any:
    """What a macro stands for, which may be another macro."""
    while _is_macro(value):
        value = _macros()[value.config_key[0]]
    return value


def _read_macros() -> set[str]:
    references = gin_config.iterate_references(gin_config._CONFIG, to=gin.get_configurable(gin_config.macro))
    return {reference.config_key[0] for reference in references} - {"gin.REQUIRED"}


def _check_macros(read_before: set[str]) -> None:
    """Every macro that is set must be read, and every macro that is read must be set. Gin checks neither.

    `read_before`: what the files alone read; a binding of the command line may have taken a macro's place.
    """
    defined, read = _macros(), _read_macros()
    for name in defined:
        if name not in read | read_before:
            raise UserError(f"nothing reads the macro {name}{nearest(name, read) or '; these files read none'}")
    missing = [name for name in sorted(read) if name not in defined or _is_required(defined[name])]
    if missing:
        raise UserError(f"the recipe needs a value for {', '.join(missing)}; give --gin.{missing[0]}=VALUE")


def _check_types(before: dict[str, Any]) -> None:
    """A macro keeps the kind of value that the recipe gave it, or is None where all that reads it may be.

    Gin would fail far from the mistake.
    """
    for name, value in _macros().items():
        old = before.get(name)
        while _is_macro(old):
            old = before.get(old.config_key[0])
        if old is None or _is_reference(value) or _is_required(old):
            continue
        if value is None:
            if not _may_be_none(name):
                raise UserError(f"{name}=None is no value for it; the recipe has {old}")
            continue
        kinds: tuple[tuple[Any, str], ...] = (
            (gin_config.ConfigurableReference, "reference like @optimizers.adamw"),
            (bool, "True or False"),
            (int, "whole number"),
            (float, "number"),
            (str, "text"),
            (dict, "dictionary"),
        )
        kind, words = next(((kind, words) for kind, words in kinds if isinstance(old, kind)), (object, ""))
        accepted = (int, float) if kind is float else kind
        # LOSS_NORMALIZING_FACTOR is a number or the name of a rule; its own check tells.
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            if name == "LOSS_NORMALIZING_FACTOR":
                continue
            raise UserError(f"{name}={value!r} is no {words}; the recipe has {old}")


def _may_be_none(macro: str) -> bool:
    """By the types that those declare who read it."""
    for (scope, selector), bound in gin_config._CONFIG.items():
        for parameter, value in bound.items():
            if not _is_reference(value) or value.config_key != (macro, "gin.macro"):
                continue
            if selector == "gin.macro":
                if not _may_be_none(scope):
                    return False
                continue
            parameters = inspect.signature(gin_config._REGISTRY[selector].wrapped).parameters
            declared = parameters[parameter].annotation
            if declared not in (Any, object, inspect.Parameter.empty) and type(None) not in get_args(declared):
                return False
    return True


def _is_reference(value: Any) -> bool:
    return isinstance(value, gin_config.ConfigurableReference)


def _is_macro(value: Any) -> bool:
    return _is_reference(value) and value.config_key[1] == "gin.macro"


def _is_required(value: Any) -> bool:
    return _is_reference(value) and value.config_key[0] == "gin.REQUIRED"


@contextlib.contextmanager
def _silent_logging():
    """gin reports as an error each search path that lacks a file, even when another has it."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
