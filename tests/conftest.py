"""Fixtures of all tests: a cache directory of the session, fast compilation, and no accelerator."""

import os
import signal
import sys
from pathlib import Path

from tests.helpers.xla_flags import compilation_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", compilation_flags())

# A shell ignores Ctrl-C for its background jobs, and a test of Ctrl-C must not depend on where the suite runs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import jax
import pytest

from explainft.training import profiling
from tests.helpers.datasets import build_cut

# A run of a few steps takes as long as measuring this machine's peak, which commands in their own process do in full.
profiling.CPU_SIZES = (64, 128)
jax.config.update("jax_cpu_enable_async_dispatch", False)

# The same examples in every run, and no time limit on a machine that others use too.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("suite")

# The files that take longest, in this order: a worker that begins one of them last leaves the other without work.
LONGEST = ("parallel/hosts", "training/train", "sweeps/sweep", "parallel/sharding", "generation/quantization")


def pytest_collection_modifyitems(items):
    """Moves the longest files to the front."""
    files = [f"tests/{name}_test.py" for name in LONGEST]
    items.sort(key=lambda item: next((i for i, file in enumerate(files) if item.nodeid.startswith(file)), len(files)))


MAPS, MANY_MAPS = Path("/proc/self/maps"), 20_000


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps():
    """Drops compiled programs where they are many: each has some memory maps, of which Linux grants a process 65,530.

    XLA ends in a segmentation fault at the next one.
    """
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """Keeps the caches of tests apart from the user's, and returns their directory."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["EXPLAINFT_CACHE_DIR"] = str(directory)
    # Runs in the tests' own process and commands in theirs share compiled programs.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory / "jax")
    jax.config.update("jax_compilation_cache_dir", str(directory / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return directory


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory):
    """Builds `tiny` with 600 training examples and 40 of each other split, and returns the directory of datasets."""
    directory = str(tmp_path_factory.mktemp("tfds"))
    build_cut("tiny", directory)
    return directory


@pytest.fixture
def seqio_unchanged():
    """Resets the directories of SeqIO after a test: they are global."""
    import seqio

    yield
    seqio.set_tfds_data_dir_override(None)
    seqio.set_global_cache_dirs([])


@pytest.fixture
def registries():
    """Removes what a test registers: other tests count what `import tasks` registers."""
    import seqio

    import tasks  # noqa: F401  its tasks stay

    known = (seqio.TaskRegistry, seqio.MixtureRegistry)
    before = [set(registry.names()) for registry in known]
    yield
    for registry, names in zip(known, before, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)
    sys.modules.pop("experiments.tasks", None)
