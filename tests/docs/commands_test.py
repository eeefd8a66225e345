"""Every command in README and docs runs, or is marked with why it cannot and at least parses."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys

import pytest

from explainft.cli import main
from tests.docs.pages import PAGES, ROOT, all_blocks, read_blocks

COMMANDS = all_blocks("bash", "console")
PROGRAMS = all_blocks("python")
MARKED_LINES = [(block.id, line) for block in COMMANDS if not block.is_run for line in block.commands]


def ids(blocks):
    return [block.id for block in blocks]


@pytest.fixture(scope="module")
def shell(tmp_path_factory, tiny_data_dir):
    """Runs a script of a block in a directory with the files that its page shows; returns the finished process."""
    scripts = tmp_path_factory.mktemp("bin")
    (scripts / "explainft").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m explainft.cli.main "$@"\n')
    (scripts / "explainft").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": tiny_data_dir,
    }

    def run(block, *command):
        directory = tmp_path_factory.mktemp("page")
        for name in ("tpu_scripts", "gin", "experiments", "Makefile"):
            (directory / name).symlink_to(ROOT / name)
        for shown in read_blocks(block.page, "python", "gin", "json"):
            if shown.file:
                (directory / shown.file).write_text(shown.body)
        return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.is_run], ids=ids([b for b in COMMANDS if b.is_run]))
def test_commands_run(block, shell):
    done = shell(block, "bash", "-e", "-c", "\n".join(block.commands))
    assert done.returncode == (1 if block.mark == "exits with 1" else 0), done.stdout + done.stderr
    if block.language == "console":
        expected = "".join(line for line in block.body.splitlines(True) if not line.startswith("$ "))
        assert done.stdout == expected


@pytest.mark.parametrize("block", [b for b in PROGRAMS if b.is_run], ids=ids([b for b in PROGRAMS if b.is_run]))
def test_programs_run_and_print_their_comments(block, shell):
    """A comment after a line is the value of that line, perhaps with a remark after `:` or `;`."""
    done = shell(block, sys.executable, "-c", print_expressions(block.body))
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.split("\n") if line]
    for comment in re.findall(r"\S  # (?!or |your )(.*)$", block.body, re.MULTILINE):
        assert any(comment == line or comment.startswith((f"{line}:", f"{line};")) for line in printed), comment


def print_expressions(program):
    """Returns the program with its bare expressions printed, and what it assigns to `text`."""
    lines = [
        f"print(repr({line.split('  #')[0]}))" if line.startswith("listops.") else line for line in program.split("\n")
    ]
    return "\n".join([*lines, "if 'text' in globals(): print(repr(text))"])


@pytest.mark.parametrize(("place", "line"), MARKED_LINES, ids=[place for place, _ in MARKED_LINES])
def test_marked_commands_exist(place, line):
    words = shlex.split(line, comments=True)
    while words and (re.fullmatch(r"\w+=\S*", words[0]) or words[0] in ("srun", "export", "cd", "&&")):
        words = words[1:]
    if not words:
        return
    if words[0] == "explainft":
        main.parse(words[1:])
        for word in words:
            if word.startswith("--gin_file="):
                assert (ROOT / word.removeprefix("--gin_file=")).is_file()
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(f"\n{target}:" in makefile for target in words[1:] if "=" not in target and target[0] != "-")
    elif words[:2] == ["python", "-m"] and words[2] != "pytest":
        assert importlib.util.find_spec(words[2])
    elif words[0].startswith("tpu_scripts/"):
        assert os.access(ROOT / words[0], os.X_OK)
    else:
        assert words[0] in ("pip", "python", "python3", "git", "gcloud", "seqio_cache_tasks", "curl")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_fenced_blocks(page):
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.findall(r"^ {4,}(?:explainft |python |make |pip |tpu_scripts/\S+\.sh ).*", outside, re.MULTILINE)


def test_readme_links_lead_to_files():
    """`make docs` checks the links inside docs/."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(("page", "limit"), [("README.md", 220), ("docs/speed.md", 250)])
def test_pages_stay_short(page, limit):
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= limit
