"""An editable install is the checkout's own package, wherever Python starts and whatever lies beside it."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = "import explainft.core.errors, tasks, sys; print(explainft.__file__)"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A checkout in a directory called explainft, and the Python of an environment that it is installed in."""
    above = tmp_path_factory.mktemp("above")
    source, venv = above / "explainft", above / "venv"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for name in ("explainft", "tasks", "gin"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    # setuptools builds in the environment that is installed into; it sees that of the tests.
    [site] = (venv / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    run = subprocess.run([*pip, "--no-build-isolation", "-e", source], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return source, python


@pytest.mark.parametrize("start", ["above", "inside", "elsewhere"])
def test_python_imports_the_checkout_from_any_directory(clone, start, tmp_path):
    source, python = clone
    (source / "runs").mkdir(exist_ok=True)  # a directory that shares a name with nothing, as `train` makes it
    directory = {"above": source.parent, "inside": source, "elsewhere": tmp_path}[start]
    run = subprocess.run([python, "-c", PROGRAM], cwd=directory, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == str(source / "explainft" / "__init__.py"), run.stderr


def test_a_recipe_is_found_from_any_directory(clone, tmp_path):
    _, python = clone
    program = "from explainft.recipes import recipe; print(*recipe.find_files(['gin/medium_tiny.gin']))"
    run = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert Path(run.stdout.strip()).is_file(), run.stderr
