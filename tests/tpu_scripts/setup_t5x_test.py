"""The commands that install T5X, as DRY_RUN=1 prints them; running them needs the network."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tpu_scripts" / "setup_t5x.sh"
COMMITS = {
    "google-research/t5x": "cc342d419ec3e3e9c4bf1df33c82330cafdc1e16",
    "google/airio": "69897df7d9a427b947a9f7bb4164c7782b43e601",
    "google-research/jestimator": "326824a477feef6d92e6f44175000907a72899ca",
}


def setup(tmp_path, **settings):
    """The run with nothing in reach but the shell's own programs: git, pip and Python would not be found."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("bash", "env", "dirname", "cat"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(programs), "HOME": str(tmp_path / "home"), **settings}
    return subprocess.run([str(SCRIPT)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)


def commands(run):
    assert (run.returncode, run.stderr) == (0, "")
    return [shlex.split(line) for line in run.stdout.split("\n\n")[0].splitlines()]


def test_dry_run_prints_each_command_and_runs_none(tmp_path):
    run = setup(tmp_path, DRY_RUN="1", PYTHON="/env/bin/python", T5X_DIR="/opt/my t5x")
    ours, init, fetch, checkout, theirs, check = commands(run)
    pip = ["/env/bin/python", "-m", "pip", "install"]
    assert ours[:4] == theirs[:4] == pip
    assert ours[ours.index("-c") + 1] == str(ROOT / "constraints.txt")
    assert ours[ours.index("-e") + 1] == str(ROOT)
    assert "jax" in ours
    assert init[-1] == "/opt/my t5x"
    for command in (fetch, checkout):
        assert command[:3] == ["git", "-C", "/opt/my t5x"] and command[-1] == COMMITS["google-research/t5x"]
    assert "--no-deps" in theirs and theirs[theirs.index("-e") + 1] == "/opt/my t5x"
    assert check[-1] == "import t5x.train, t5x.eval, t5x.infer, tasks"
    assert "export T5X_DIR=/opt/my\\ t5x\n" in run.stdout
    assert "${T5X_DIR}/t5x/train.py --gin_file=gin/medium_small.gin" in run.stdout
    assert not (tmp_path / "home").exists()


def test_every_repository_is_pinned_to_a_whole_commit(tmp_path):
    words = [word for command in commands(setup(tmp_path, DRY_RUN="1")) for word in command]
    assert {word for word in words if re.fullmatch("[0-9a-f]{40}", word)} == {COMMITS["google-research/t5x"]}
    pinned = dict(re.findall(r"git\+https://github\.com/(\S+)@([0-9a-f]{40})$", "\n".join(words), re.MULTILINE))
    assert pinned == {name: COMMITS[name] for name in ("google/airio", "google-research/jestimator")}
    addresses = {word for word in words if "github.com" in word}
    assert len(addresses) == len(COMMITS) and "https://github.com/google-research/t5x" in addresses
    released = [word for word in words if re.fullmatch(r"[a-z-]+==[0-9.]+", word)]
    assert {word.split("==")[0] for word in released} == {"cached-property", "chex", "fiddle", "grain", "jaxtyping"}


@pytest.mark.parametrize("accelerator", ["tpu", "cuda12", "cuda13"])
def test_accelerators(tmp_path, accelerator):
    assert f"jax[{accelerator}]" in commands(setup(tmp_path, DRY_RUN="1", ACCELERATOR=accelerator))[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ACCELERATOR": "rocm", "DRY_RUN": "1"}, "ACCELERATOR=rocm is unknown; use cpu, tpu, cuda12 or cuda13"),
        ({"DRY_RUN": "yes"}, "DRY_RUN=yes must be 0 or 1"),
        ({"PYTHON": "/no/python", "DRY_RUN": "0"}, "PYTHON=/no/python is not an executable; give an interpreter"),
        ({"PYTHON": "/no/python"}, "PYTHON=/no/python is not an executable; give an interpreter"),
        ({"PYTHON": "bash"}, "git is missing; install it with the system's packages"),
    ],
)
def test_user_errors(tmp_path, settings, message):
    run = setup(tmp_path, **settings)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"setup_t5x.sh: error: {message}\n")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    run = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, env=dict(os.environ))
    assert run.returncode == 0, run.stdout
