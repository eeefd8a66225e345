"""When a token cache is rebuilt: settings, sources and functions that changed."""

import functools
import importlib
import json
import operator
import sys
from pathlib import Path

import pytest

from explainft import listops
from explainft.core.errors import UserError
from explainft.data import freshness, synthetic, task_registry, token_cache

EVAL_TASK = "explained_tiny_medium_eval_test_compact"


@pytest.fixture(scope="module")
def data_dir(tiny_data_dir):
    return tiny_data_dir


def edit_meta(cache, **changes):
    (cache.directory / "meta.json").write_text(json.dumps({**cache.meta, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": freshness.FORMAT - 1},
        {"metrics": [{"name": "explainft.metrics:score", "kwargs": {}}]},  # a module that was moved
        {"metrics": [{"module": "explainft.metrics", "name": "score", "kwargs": {}}]},
        {"postprocess": {"name": "listops/renamed", "kwargs": {}}},
        {"metrics": "damaged"},
        {"sources": None},
    ],
)
def test_a_cache_of_another_format_or_with_moved_functions_is_rebuilt(data_dir, changes):
    cache = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir)
    edit_meta(cache, **changes)
    rebuilt = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir)
    assert rebuilt.meta == cache.meta and len(rebuilt.metrics()) == 1


def test_functions_of_this_package_are_kept_by_registered_names(data_dir):
    meta = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir).meta
    assert meta["postprocess"]["name"] == "listops/postprocess"
    assert [metric["name"] for metric in meta["metrics"]] == ["problems/score"]
    assert all(task_registry.import_function({"name": name, "kwargs": {}}) for name in task_registry.FUNCTIONS)


def test_a_changed_module_of_a_user_s_metric_makes_the_cache_stale(tmp_path, monkeypatch):
    (tmp_path / "users_metrics.py").write_text("def score(targets, predictions): return {}")
    monkeypatch.syspath_prepend(str(tmp_path))
    described = {"name": "users_metrics:score", "kwargs": {}}
    settings = freshness.task_settings("tasks", None)
    meta = {"format": freshness.FORMAT, "settings": settings, "sources": {}, "metrics": [described]}
    meta |= {"function_sources": freshness.function_sources(described)}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert freshness.is_fresh(tmp_path / "meta.json", settings)
    (tmp_path / "users_metrics.py").write_text("def score(targets, predictions): return {'a': 1}")
    assert not freshness.is_fresh(tmp_path / "meta.json", settings)
    (tmp_path / "users_metrics.py").rename(tmp_path / "elsewhere.py")
    assert not freshness.is_fresh(tmp_path / "meta.json", settings)


@pytest.mark.parametrize(("other", "fresh"), [("x = 2", False), ("x = 1", True), (None, True)])
def test_another_checkout_is_compared_with_its_own_files(tmp_path, monkeypatch, other, fresh):
    for name, helper in (("one", "x = 1"), ("other", other)):
        (tmp_path / name / "checkout_tasks").mkdir(parents=True)
        if helper is not None:
            (tmp_path / name / "checkout_tasks" / "__init__.py").write_text("")
            (tmp_path / name / "checkout_tasks" / "mine.py").write_text("from checkout_tasks import helper\n")
            (tmp_path / name / "checkout_tasks" / "helper.py").write_text(helper)

    def imported_from(name):
        monkeypatch.setattr(sys, "path", [str(tmp_path / name), *sys.path])
        for module in [module for module in sys.modules if module.startswith("checkout_tasks")]:
            monkeypatch.delitem(sys.modules, module)

    imported_from("one")
    importlib.import_module("checkout_tasks.mine")
    sources = freshness.task_sources("checkout_tasks.mine")
    assert {"checkout_tasks:checkout_tasks/mine.py", "checkout_tasks:checkout_tasks/helper.py"} <= sources.keys()
    assert freshness.unchanged(sources)
    imported_from("other")
    (tmp_path / "one").rename(tmp_path / "gone")
    assert freshness.unchanged(sources) == fresh


@pytest.mark.parametrize("module", ["their_package.mine", "their_module"])
def test_modules_that_the_task_s_code_imports_are_sources(tmp_path, monkeypatch, module):
    import tasks

    text = "import json, tasks, installed\nimport their_package.below.helper\n"
    installed = tmp_path / ".venv/lib/site-packages"
    files = ("their_package/mine.py", "their_package/unused.py", "their_package/below/helper.py", "their_module.py")
    for file in (*(tmp_path / file for file in files), installed / "installed.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if file.stem in ("mine", "their_module") else "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(installed), *sys.path])
    with monkeypatch.context() as patch:
        for name in ("their_package", "their_package.below", "their_package.below.helper", module, "installed"):
            patch.setitem(sys.modules, name, None)  # to be forgotten
            patch.delitem(sys.modules, name)
        importlib.import_module(module)
        sources = {name.rpartition(":")[2] for name in freshness.task_sources(module)}
    own = f"{module.replace('.', '/')}.py"
    packages = {"explainft/listops": listops, "explainft/data/synthetic": synthetic, "tasks": tasks}
    files = {f"{name}/{path.name}" for name, of in packages.items() for path in Path(of.__file__).parent.glob("*.py")}
    assert sources == {own, "their_package/below/helper.py", *files}


def at_least(threshold, targets=None, predictions=None, words=()):
    return {"score": float(len(predictions) >= threshold)}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (functools.partial(at_least, 3), "has positional arguments; pass those of a task's functions by keyword"),
        (functools.partial(at_least, threshold=3, words={4}), "at_least of a task has arguments that are not JSON"),
        (operator.itemgetter(0), "must be a function of a module"),
    ],
)
def test_functions_that_cannot_be_imported_by_name_are_refused(metric, message):
    with pytest.raises(UserError, match=message):
        task_registry.describe_function(metric)
