"""What a command sets before JAX starts, and that it holds for a whole run."""

import ctypes
import os
import subprocess
import sys

import pytest

from tests.helpers.datasets import cache_tokens

# What JAX itself has read.
PROGRAM = """
from explainft.core import jax_setup
jax_setup.configure()
import jax
print(jax.config.read("jax_cpu_enable_async_dispatch"), jax.config.jax_compilation_cache_dir)
"""
NAMES = ("JAX_COMPILATION_CACHE_DIR", "JAX_CPU_ENABLE_ASYNC_DISPATCH")


def settings_read(**environment):
    bare = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=bare | environment, capture_output=True, text=True, check=True).stdout.split()


def test_cpu_dispatches_synchronously_and_caches_programs(tmp_path):
    asynchronous, directory = settings_read(EXPLAINFT_CACHE_DIR=str(tmp_path))
    assert asynchronous == "False" and directory.startswith(str(tmp_path / "compiled"))


def test_settings_of_the_user_stay(tmp_path):
    settings = {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "true", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    assert settings_read(**settings) == ["True", str(tmp_path)]


def test_an_unwritable_cache_is_one_note(tmp_path):
    """Programs are compiled all the same, without JAX's warning for each."""
    (tmp_path / "file").touch()
    program = f"{PROGRAM}\nprint(jax.jit(lambda x: x + 1)(1))"
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "2"
    assert done.stderr == (
        f"note: cannot write compiled programs to {tmp_path / 'file'} (File exists), so each command compiles its own; "
        "set EXPLAINFT_CACHE_DIR to another directory\n"
    )


def test_an_installed_tpu_compiler_without_a_tpu_prints_nothing(tmp_path):
    (tmp_path / "libtpu").mkdir()
    (tmp_path / "libtpu" / "__init__.py").write_text("def get_library_path(): return 'libtpu.so'\n")
    program = (
        "from explainft.core import jax_setup; jax_setup.configure(); import os; print(os.environ['JAX_PLATFORMS'])"
    )
    for given, found in (({}, "cpu\n"), ({"JAX_PLATFORMS": "tpu,cpu"}, "tpu,cpu\n")):
        environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"} | given
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert (run.stdout, run.stderr) == (found, "")


# A computation's temporary arrays may be one block of gigabytes.
FAULTS = """
from explainft.core import jax_setup
jax_setup.configure()
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes, libc.memset.argtypes = (
    ctypes.c_void_p, [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
)
libc.malloc.argtypes = [ctypes.c_size_t]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(5 << 28)
    libc.memset(block, 1, 5 << 28)
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_pages_of_a_large_block_fault_once():
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, second = map(int, run.stdout.split())
    assert second < first / 100


# Blocks of growing sizes, of which every second is freed: as caches that grow while others are in use.
RESIDENT = """
from explainft.core import jax_setup
jax_setup.configure(keep_large_blocks={keep})
import numpy as np
def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])
before = resident()
kept, freed = [], []
for i in range(20):
    (freed if i % 2 else kept).append(np.ones((4 + i) << 20, np.uint8))
freed.clear()
print(resident() - before - sum(x.nbytes for x in kept))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_large_blocks_go_back_to_the_kernel_where_asked():
    left = {}
    for keep in (True, False):
        command = [sys.executable, "-c", RESIDENT.format(keep=keep)]
        left[keep] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert left[True] > 100 << 20 and left[False] < 10 << 20  # of 140 MiB that were freed


def test_run_with_cached_tokens_loads_no_tensorflow_and_caches_programs(tmp_path, tiny_data_dir):
    cache_tokens(tiny_data_dir, "explained_tiny_medium_eval_validation_compact")
    macros = {"TRAIN_STEPS": 1, "WARMUP_STEPS": 0, "NUM_LAYERS": 1, "EVALUATOR_NUM_EXAMPLES": 2, "EVAL_STEPS": 1}
    bare = {name: value for name, value in os.environ.items() if name not in NAMES}
    compiled = tmp_path / "compiled"
    command = [
        "train", "--gin_file=gin/medium_tiny.gin", f"--gin.MODEL_DIR={tmp_path / 'run'}",
        f"--tfds_data_dir={tiny_data_dir}", *(f"--gin.{name}={value}" for name, value in macros.items()),
    ]  # fmt: skip
    # Not -X importtime: its lines go to standard error, which is held back while TensorFlow is imported.
    program = f"import sys; from explainft.cli.main import main; main({command!r}); "
    program += "print({'jax', 'tensorflow'} & set(sys.modules))"
    environment = bare | {"JAX_COMPILATION_CACHE_DIR": str(compiled)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines()[-1] == "{'jax'}"
    assert list(compiled.glob("*-cache"))
