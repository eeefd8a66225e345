"""The package as others install it: a wheel without the repository, the examples of the guides, no network.

The environment sees the dependencies of the one that runs the tests, and has explainft and tasks from the wheel alone.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import read_blocks

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "own-task.md"
NO_NETWORK = """
import socket


def refuse(*args, **kwargs):
    raise AssertionError(f"network: {args}")


socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools writes beside the sources, and packs what an earlier build left there."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("explainft", "tasks", "gin"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={folder}", source)
    [path] = folder.glob("explainft-*.whl")
    return path


def pip(*words):
    run = subprocess.run([sys.executable, "-m", "pip", *map(str, words)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory, tiny_data_dir):
    """Runs a command of the clean environment in a folder of its own; returns its standard output."""
    folder = tmp_path_factory.mktemp("clean")
    venv, work = folder / "venv", folder / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    pip("--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    [site] = (venv / "lib").glob("python*/site-packages")
    # A line of a .pth file comes after the wheel, and the .pth files that it leads to, like an editable install's, are
    # not read.
    dependencies = dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "EXPLAINFT_CACHE_DIR": str(folder / "cache"),
        "TFDS_DATA_DIR": tiny_data_dir,
        **{name: os.environ[name] for name in ("JAX_PLATFORMS", "XLA_FLAGS")},
    }

    def run(*command):
        found = shutil.which(command[0], path=str(venv / "bin"))
        assert found is not None, command[0]
        words = [found, *map(str, command[1:])]
        done = subprocess.run(words, env=environment, cwd=work, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder = work  # pyright: ignore[reportFunctionMemberAccess]
    return run


@pytest.fixture(scope="module")
def guide_blocks():
    """The Python blocks of the guide to a task of the user's own, in order."""
    return [block.body for block in read_blocks(GUIDE, "python")]


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    sources = [path for name in ("explainft", "tasks") for path in (ROOT / name).rglob("*") if path.is_file()]
    expected = {str(path.relative_to(ROOT)) for path in sources if "__pycache__" not in path.parts}
    expected |= {f"explainft/recipes/{path.relative_to(ROOT)}" for path in (ROOT / "gin").rglob("*.gin")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_commands_and_imports_come_from_the_wheel(clean):
    assert "fine-tune t5" in clean("explainft", "--help").lower()
    program = "import explainft, tasks; print(explainft.__file__, tasks.__file__, sep='\\n')"
    files = clean("python", "-c", program).split()
    assert len(files) == 2
    for file in files:
        assert Path(file).is_relative_to(clean.folder.parent / "venv")
    solved = clean("explainft", "solve", "[MAX 2 9 [MIN 4 7 ] 0 ]")  # with the checkpoint that the wheel holds
    assert solved.endswith("answer: 9 (correct; 2 of 2 steps correct)\n")


def test_script_of_the_guide(clean, guide_blocks):
    (clean.folder / "script.py").write_text(guide_blocks[0])
    expression, *lines = clean("python", "script.py").splitlines()
    assert re.fullmatch(r"\[(MIN|MAX|MED|SUM) .*\]", expression)
    assert any(re.fullmatch(r"Final answer: \d", line) for line in lines)
    scores = [line for line in lines if ": exact match " in line]
    assert len(scores) == 4
    for line in scores:
        exact_match, n = re.search(r"exact match (\S+) of (\d+), valid 0.000", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        assert 0 < float(exact_match) < 1 and n == "40"


def test_the_wheel_s_recipes_train_in_any_directory(clean, guide_blocks):
    """Two steps on the guide's own task, of a recipe that only the wheel contains."""
    assert not (clean.folder / "gin").exists()
    assert "\ngin/medium_tiny.gin " in clean("explainft", "recipes")
    (clean.folder / "my_tasks.py").write_text(guide_blocks[1])
    settings = {
        "MODEL_DIR": "run",
        "MIXTURE_OR_TASK_MODULE": "my_tasks",
        "MIXTURE_OR_TASK_NAME": "my_answer_first",
        "EVAL_MIXTURE": "my_answer_first_eval",
        "TRAIN_STEPS": 2,
        "WARMUP_STEPS": 1,
        "NUM_LAYERS": 1,
        "EMB_DIM": 16,
        "BATCH_SIZE": 4,
        "EVAL_STEPS": 1,
        "EVAL_BATCH_SIZE": 2,
        "EVALUATOR_NUM_EXAMPLES": 2,
    }
    flags = [f"--gin.{name}={value}" for name, value in settings.items()]
    clean("explainft", "train", "--gin_file=gin/medium_tiny.gin", *flags)
    assert (clean.folder / "run" / "checkpoints" / "checkpoint_2").is_dir()
    clean("explainft", "eval", "run", "--num_examples", "4")
    assert (clean.folder / "run" / "inference_eval" / "my_answer_first_eval-metrics.jsonl").is_file()
