"""Whether a file in the cache still agrees with what it was made from: settings, code and data.

Sources are names with SHA-256 digests. A name is a path, or `module:path below the directory of its import`:
another checkout is compared with its own files.
"""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from explainft import listops
from explainft.data import synthetic, task_registry

FORMAT = 8  # raise it when what is written to the cache changes
INSTALLED = {"site-packages", "dist-packages"}  # of third parties, as in a .venv of the current directory


def task_settings(
    task_module: str,
    data_dir: str | None,
    offline_caches: list[str] | None = None,
    vocabulary_file: str | None = None,
) -> dict[str, Any]:
    """Returns what a task's tokens depend on beside its name: with other settings, the same name means other tokens."""
    return {
        "module": task_module,
        "data_dir": data_dir or os.environ.get("TFDS_DATA_DIR") or None,
        "t5_vocabulary": os.environ.get("EXPLAINFT_T5_VOCAB"),
        "vocabulary_file": vocabulary_file and str(Path(vocabulary_file).expanduser().absolute()),  # None: the task's
        "offline_caches": offline_caches,  # the directories where one must be; None: made from the task's data
    }


def is_fresh(file: Path, settings: dict[str, Any]) -> bool:
    """Returns whether the file has today's format and was written for the same settings from the same sources."""
    try:
        meta = json.loads(file.read_text())
        return (
            meta["format"] == FORMAT
            and meta["settings"] == settings
            and unchanged(meta["sources"])
            and _functions_unchanged(meta.get("function_sources", {}), _functions(meta))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # absent or corrupt: to be rebuilt


def has_format(file: Path) -> bool:
    """Returns whether the file can be read and has today's format."""
    try:
        return json.loads(file.read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def unchanged(sources: Mapping[str, str]) -> bool:
    # An absent file cannot have changed anything: caches travel to machines without the dataset or SeqIO.
    found = {_path(name): digest for name, digest in sources.items()}
    return all(not path.is_file() or file_digest(path) == digest for path, digest in found.items())


def _functions(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    described = [meta.get("postprocess"), meta.get("next_input"), *meta.get("metrics", [])]
    return [function for function in described if function is not None]


def _functions_unchanged(sources: Mapping[str, str], functions: Iterable[Mapping[str, Any]]) -> bool:
    """A module that was moved has left its functions: unlike other sources, theirs must be there."""
    for function in functions:
        module = task_registry.module_of(function)
        if module is not None and module not in sources:
            return False
    return all(_module_digest(module) == digest for module, digest in sources.items())


def function_sources(*described: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns the digests of the modules that described functions are imported from."""
    modules = {task_registry.module_of(function) for function in described if function is not None}
    return {module: _module_digest(module) or "" for module in modules if module is not None}


def _module_digest(module: str) -> str | None:
    """Returns the digest of a module's file, without importing it or the packages above it; None where it has none."""
    if module == "__main__":
        file = Path(getattr(sys.modules[module], "__file__", None) or "")
        return file_digest(file) if file.is_file() else ""
    root = _root(module.partition(".")[0])
    if root is None:
        return None
    below = root.joinpath(*module.split("."))
    files = (below.with_suffix(".py"), below / "__init__.py")
    if file := next((file for file in files if file.is_file()), None):
        return file_digest(file)
    return "" if list(below.parent.glob(f"{below.name}.*")) else None  # an extension module


def task_sources(task_module: str, *files: str) -> dict[str, str]:
    """Returns the digests of what the tasks are made from: their code, that of problems made from seeds, and `files`.

    The task module must be imported.
    """
    code = sys.modules[task_module].__file__
    assert code is not None
    own = task_module.partition(".")[0]
    alone = not hasattr(sys.modules[own], "__path__")  # a plain module, in a directory that may hold anything else too
    paths = []
    for name, module in list(sys.modules.items()):
        top, path = name.partition(".")[0], Path(getattr(module, "__file__", None) or "")
        beside = alone and path.is_relative_to(Path(code).parent) and INSTALLED.isdisjoint(path.parts)
        if top == own or (beside and top not in {"explainft", *sys.stdlib_module_names}):
            paths.append(path)
    for package in (listops, synthetic, sys.modules.get("tasks", listops)):
        paths += Path(package.__file__ or "").parent.glob("*.py")
    return {_name(path, task_module): file_digest(path) for path in [*paths, *map(Path, files)] if path.is_file()}


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path(name: str) -> Path:
    """Returns the file that a source's name stands for in this process."""
    module, colon, below = name.partition(":")
    root = _root(module) if colon else None
    return Path(name) if root is None else root / below


def _name(path: Path, task_module: str) -> str:
    own = task_module.partition(".")[0]
    for module in ("tasks", "explainft", own):
        root = _root(module)
        if root is not None and path.is_relative_to(root if module == own else root / module):
            return f"{module}:{path.relative_to(root)}"
    return str(path)


def _root(module: str) -> Path | None:
    """Returns the directory that a top-level module would be imported from, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = spec and (spec.submodule_search_locations or [spec.origin])
    return Path(next(iter(places)) or "").parent if places else None
