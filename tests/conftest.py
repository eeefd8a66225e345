"""What every test gets: a cache of its own session, code that is compiled fast, and no accelerator."""

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time is LLVM's, at machine code that runs for milliseconds: unoptimised, it takes half of it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

jax.config.update("jax_cpu_enable_async_dispatch", False)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """Token caches of the tests stay out of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EXPLAINFT_CACHE_DIR"] = str(folder)
    # A run in the tests' own process compiles what another has compiled; commands keep a cache of their own.
    jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory):
    """The config `tiny`, cut to 600 training examples and 40 of each other split; the folder of all datasets."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    build_cut("tiny", folder)
    return folder


def build_cut(name, folder):
    """A config with 600 training examples and 40 of each other split."""
    from explainft.data.dataset import ExplainedListops

    config = ExplainedListops.builder_configs[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "train_examples", 600)
        patch.setattr(config, "eval_examples", 40)
        builder = ExplainedListops(config=name, data_dir=folder)
        builder.processes = 1
        builder.download_and_prepare()


@pytest.fixture
def seqio_unchanged():
    """seqio keeps the folders it was told of for the whole process."""
    import seqio

    yield
    seqio.set_tfds_data_dir_override(None)
    seqio.set_global_cache_dirs([])


@pytest.fixture
def registries():
    """Forgets what a test registers: others count what `import tasks` does."""
    import seqio

    import tasks  # noqa: F401  its tasks stay

    known = (seqio.TaskRegistry, seqio.MixtureRegistry)
    before = [set(registry.names()) for registry in known]
    yield
    for registry, names in zip(known, before, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)
    sys.modules.pop("experiments.tasks", None)
