"""Flags, errors, and how every command ends."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explainft import __version__
from explainft.cli.main import build_parser, parse
from explainft.core import jax_setup
from explainft.core.errors import UserError
from tests.cli.conftest import RECIPE, ROOT, SMALL
from tests.helpers.command import outcome

EXPLAINFT = Path(sys.executable).parent / "explainft"
NESTED = "[MAX 2 9 [MIN 4 7 ] 0 ]"


def test_help_is_light():
    """It loads nothing heavy. How long that takes on a loaded machine is left out."""
    program = (
        "import sys; from explainft.cli.main import build_parser; build_parser().format_help(); "
        "print({'jax', 'numpy', 'tensorflow', 'gin', 'altair', 'asyncio', 'etils', 'filelock'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "[MAX 2 [MIN ] ]"], "at character"),
        (["explain", "[MOX 2 3 ]"], "MOX"),
        (["explain", "--style=mediun", NESTED], "unknown style 'mediun'; did you mean 'medium'?"),
        (["data", "build", "--config=tinny"], "unknown config 'tinny'; did you mean 'tiny'?"),
        (["data", "show", "--split=tests"], "unknown split 'tests'; did you mean 'test'?"),
        (
            ["data", "show", "--tfds_data_dir=/nonexistent"],
            "explainft data build --config tiny --tfds_data_dir /nonexistent",
        ),
        (["data", "build", "--config=tiny", "--tfds_data_dir=/proc/x"], "cannot write the dataset to /proc"),
        (["train"], "no recipe; give --gin_file"),
        (["train", RECIPE], "needs a value for MODEL_DIR"),
        (["train", RECIPE, "--gin.MODEL_DIR=/tmp/x", "--gin.BATCH=3"], "nothing reads the macro BATCH; did you mean"),
        (
            ["eval", "/nonexistent", "--gin.BATCH_SIZE=3"],
            "--gin.BATCH_SIZE=3 sets a macro of a recipe; give one with --gin_file",
        ),
        (["solve", NESTED, "--gin.A=1"], "--gin.A=1 sets a macro of a recipe; this command reads none"),
        (["infer", "/nonexistent", NESTED], "/nonexistent holds no checkpoints; give the MODEL_DIR of a run"),
        (["eval", "/nonexistent"], "/nonexistent holds no checkpoints"),
        (
            ["eval", RECIPE, "--gin.MODEL_DIR=x"],
            "it does not configure `explainft eval` but `explainft train`; give one such as gin/eval_tiny.gin",
        ),
        (
            ["infer", f"--gin_file={ROOT}/gin/eval_tiny.gin", "--gin.EVAL_OUTPUT_DIR=x"],
            "eval_tiny.gin: it does not configure `explainft infer` but `explainft eval`",
        ),
        (["sweep", f"{ROOT}/gin/medium_tiny.gin"], "`explainft sweep` but `explainft train`; give one such as exp"),
        (["train", f"--gin_file={ROOT}/experiments/sizes.gin"], "`explainft train` but `explainft sweep`"),
        (["pipeline", "/nonexistent.gin"], "no pipeline '/nonexistent.gin' in "),
        (
            ["pipeline", f"{ROOT}/gin/medium_tiny.gin"],
            "`explainft pipeline` but `explainft train`; give one such as exp",
        ),
        (["plan", f"--gin_file={ROOT}/gin/eval_tiny.gin", "--topology=local"], "`explainft plan` but `explainft eval`"),
        (
            ["sweep", f"{ROOT}/experiments/sizes.gin", "--gin.LEARNING_RATE=1"],
            "nothing reads the macro LEARNING_RATE; these files read none",
        ),
        (["plan", "--all", "--gin_file=nope.gin"], "no recipe 'nope.gin' in "),
        (["infer", NESTED], "no run at '[MAX 2 9 "),
        (["export", "run", "gs://bucket/small"], "DESTINATION=gs://bucket/small must be a directory of this machine"),
        (["report", "/nonexistent"], "/nonexistent"),
        (["solve", "( ( [MAX 2 ) 3 )"], "at character"),
        (["explain", "--modulus=0", NESTED], "'0' must be a positive integer; see explainft explain --help"),
        (["exlain", NESTED], "exlain"),
    ],
)
def test_user_error_takes_one_line_and_exit_code_2(capfd, words, message):
    code, out, err = outcome(capfd, *words)
    assert code == 2 and out == ""
    assert err.startswith("explainft: error: ") and err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "positionals"),
    [
        ("infer RUN --output FILE A B", {"run": "RUN", "question": ["A", "B"], "output": "FILE"}),
        ("infer RUN A --output=FILE B", {"run": "RUN", "question": ["A", "B"], "output": "FILE"}),
        ("infer --output=FILE", {"run": None, "question": [], "output": "FILE"}),
        ("explain A --style long B", {"expression": ["A", "B"], "style": "long"}),
        ("explain --style long -- -A --style", {"expression": ["-A", "--style"], "style": "long"}),
        ("report A --output DIR B", {"runs": ["A", "B"], "output": "DIR"}),
        ("convert A --to hf B", {"source": "A", "destination": "B", "to": "hf"}),
        ("data import train=A --name N --problem math test=B", {"files": ["train=A", "test=B"], "name": "N"}),
    ],
)
def test_flags_may_stand_between_arguments(words, positionals):
    parsed = vars(parse(words.split()))
    assert {name: parsed[name] for name in positionals} == positionals


@pytest.mark.parametrize(
    ("words", "message"),
    [("check --text A", "required: expression"), ("convert A B C --to hf", "unrecognized arguments: C"),
     ("explain A --nope B", "unrecognized arguments: --nope")],
)  # fmt: skip
def test_wrong_arguments_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse(words.split())


def test_a_checkout_that_does_not_run_is_reported(capfd, tmp_path, monkeypatch):
    """After `pip install .` in it, without -e."""
    (tmp_path / "explainft").mkdir()
    (tmp_path / "explainft" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    code, out, err = outcome(capfd, "explain", NESTED)
    assert code == 0 and out.endswith("Final answer: 9\n")
    line = f"note: this runs the copy in {ROOT}/explainft, not {tmp_path}/explainft; to run the checkout: "
    assert err.startswith(line) and err.count("\n") == 1
    monkeypatch.chdir(ROOT)
    assert outcome(capfd, "explain", NESTED)[2] == ""


def printing_commands(run: Path, data_dir: str) -> dict[str, list[str]]:
    """Returns a command line for each command that prints to standard output."""
    return {
        "help": ["--help"],
        "version": ["--version"],
        "data build": ["data", "build", "--config=tiny", f"--tfds_data_dir={data_dir}"],
        "data show": ["data", "show", f"--tfds_data_dir={data_dir}"],
        "explain": ["explain", NESTED],
        "check": ["check", NESTED, "--text=9"],
        "solve": ["solve", NESTED],
        "eval": ["eval", str(run), "--num_examples=5", f"--tfds_data_dir={data_dir}"],
        "infer": ["infer", str(run), NESTED],
        "report": ["report", str(run), f"--output={run / 'report'}"],
        "sweep": [
            "sweep",
            f"{ROOT}/experiments/precision.gin",
            "--dry_run",
            f"--runs={run}/none",
            f"--results={run}/none",
        ],
        "plan": ["plan", RECIPE, "--topology=local", *(f"--gin.{name}={value}" for name, value in SMALL.items())],
    }


COMMANDS = list(printing_commands(Path(), ""))


@pytest.mark.parametrize("command", COMMANDS)
def test_full_disk_takes_one_line(capfd, monkeypatch, trained, tiny_data_dir, command):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        code, _, err = outcome(capfd, *printing_commands(trained, tiny_data_dir)[command])
    assert code == 2
    line = "explainft: error: cannot write to standard output (No space left on device); make room, or write elsewhere"
    assert err.splitlines()[-1] == line and "Traceback" not in err


@pytest.mark.parametrize("command", ["help", "version", "data build", "data show", "explain", "check"])
def test_closed_pipe_is_no_error(capfd, monkeypatch, tiny_data_dir, command):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        code, _, err = outcome(capfd, *printing_commands(Path(), tiny_data_dir)[command])
    assert code == 0 and "error" not in err and "Traceback" not in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["explain", NESTED]])
def test_interpreter_exits_quietly_after_a_full_disk(words, unbuffered):
    """Python flushes standard output once more at exit."""
    settings = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        run = subprocess.run([EXPLAINFT, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=settings)
    assert run.returncode == 2 and run.stderr.count("\n") == 1


def test_interpreter_exits_quietly_after_a_closed_pipe():
    program = f"{EXPLAINFT} explain {' '.join(repr(NESTED) for _ in range(3000))} | head -1"
    run = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert run.stdout == "Min, smallest number of [4, 7] is 4\n" and run.stderr == ""


def test_full_standard_error_keeps_the_exit_code():
    with open("/dev/full", "w") as full:
        assert subprocess.run([EXPLAINFT, "explain", "[MAX 1 x ]"], stderr=full).returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_keep_the_exit_code(closed):
    for words, code in ((f"explain '{NESTED}'", 0), ("explain '[MAX 1 '", 2), ("nothing", 2)):
        assert subprocess.run(["bash", "-c", f"{EXPLAINFT} {words} {closed}"], capture_output=True).returncode == code


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """What is written to standard output must not end up in a file that the command writes."""
    program = (
        "import os; from explainft.cli.output import open_closed_streams; open_closed_streams(); "
        "file = open('file', 'w'); print('lost'); os.write(1, b'lost'); os.write(2, b'lost'); "
        "print(file.fileno() > 2, file=file)"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{program}" <&- >&- 2>&-'], cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "True\n"


def test_deleted_directory_takes_one_line(tmp_path):
    program = f"cd {tmp_path} && rmdir {tmp_path} && {EXPLAINFT} train --gin_file=gin/medium_tiny.gin --gin.MODEL_DIR=x"
    run = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    line = "explainft: error: the current directory has been deleted; change to another\n"
    assert (run.returncode, run.stderr) == (2, line)


def test_path_that_the_locale_lacks_takes_one_line(tmp_path):
    command = [EXPLAINFT, "data", "build", "--config=tiny-20", f"--tfds_data_dir={tmp_path}/ä"]
    environment = os.environ | {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.endswith("has letters that the locale lacks; set PYTHONUTF8=1\n")


def test_operating_system_error_takes_one_line(capfd, monkeypatch):
    def refuse(tree, style, modulus):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("explainft.listops.explain", refuse)
    code, out, err = outcome(capfd, "explain", NESTED)
    assert (code, out) == (2, "")
    assert err.startswith("explainft: error: /some/file: Permission denied; check") and err.count("\n") == 1


def test_ctrl_c_exits_with_130():
    with subprocess.Popen([EXPLAINFT, "explain"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(2)  # it waits for standard input
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stderr.read() == b""


def test_tilde_is_the_home_directory_in_every_flag(capfd, tmp_path, tiny_data_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, _, err = outcome(capfd, "train", RECIPE, "--gin.MODEL_DIR=~/file", "--tfds_data_dir", tiny_data_dir)
    assert code == 2 and f"MODEL_DIR='{tmp_path}/file'" in err
    code, _, err = outcome(capfd, "infer", "run", NESTED, "--output=~/missing/out.jsonl")
    assert code == 2 and f"cannot write {tmp_path}/missing/out.jsonl" in err
    assert not (tmp_path / "~").exists()


def test_cache_directory(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", "")  # as an unset variable of a script
    assert jax_setup.cache_root() == tmp_path / ".cache/explainft"
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", "gs://bucket/cache")
    assert outcome(capfd, "solve", NESTED) == (
        2,
        "",
        "explainft: error: EXPLAINFT_CACHE_DIR=gs://bucket/cache must be a directory of this machine; "
        "write to one, or to a bucket mounted as one\n",
    )


def test_console_script_is_installed():
    script = Path(sys.executable).parent / "explainft"
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == __version__


def command_parsers(parser) -> list:
    """Returns the parsers of all commands, those below `data` included."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [found for action in below for sub in action.choices.values() for found in command_parsers(sub)] or [parser]


def test_help_ends_with_an_example_that_parses():
    for parser in command_parsers(build_parser()):
        example = parser.format_help().splitlines()[-1].strip()
        assert example.startswith(parser.prog)
        assert parse(shlex.split(example)[1:]).function
