"""One undisturbed run, and one cache of compiled programs, for all tests of survival."""

import shutil

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.survival.runs import run


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Else each run would compile the same step again."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_data_dir):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, tiny_data_dir)
    return folder


@pytest.fixture
def copy(undisturbed, tmp_path):
    """The undisturbed run with its checkpoints 4, 8 and 10, to be corrupted."""
    return shutil.copytree(undisturbed, tmp_path / "run")
