"""The command line as its users meet it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explainft import __version__
from explainft.cli.main import main
from explainft.core import jax_setup

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
RECIPE = f"--gin_file={ROOT / 'gin' / 'medium_tiny.gin'}"
NESTED = "[MAX 2 9 [MIN 4 7 ] 0 ]"
MEDIUM = "Min, smallest number of [4, 7] is 4\nMax, largest number of [2, 9, 4, 0] is 9\nFinal answer: 9"


def outcome(capfd, *words):
    """Exit code, standard output and standard error of a command."""
    capfd.readouterr()
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as e:
        code = e.code
    return code, *capfd.readouterr()


def test_help_is_light():
    """Nothing heavy is imported for it: what a loaded machine needs does not matter here, only what is loaded."""
    program = (
        "import sys; from explainft.cli.main import build_parser; build_parser().format_help(); "
        "print({'jax', 'numpy', 'tensorflow', 'gin', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_explain(capfd):
    assert outcome(capfd, "explain", NESTED) == (0, MEDIUM + "\n", "")
    assert outcome(capfd, "explain", "--style=none", NESTED, "[SUM 9 9 ]") == (0, "9\n8\n", "")
    assert outcome(capfd, "explain", "--style=short", "--modulus=7", "[SUM 9 9 ]")[1] == "SUM, 4\nFinal answer: 4\n"


def test_check(capfd):
    assert outcome(capfd, "check", NESTED, "--text", MEDIUM) == (
        0,
        "final answer: 9 (correct)\nsteps: 2 of 2 correct\n",
        "",
    )
    code, out, _ = outcome(capfd, "check", NESTED, "--text", MEDIUM.replace("[2, 9", "[3, 9"))
    assert code == 1
    assert out == (
        "final answer: 9 (correct)\nsteps: 1 of 2 correct\nfirst wrong step: 2\n"
        "  expected: Max, largest number of [2, 9, 4, 0] is 9\n  found: Max, largest number of [3, 9, 4, 0] is 9\n"
    )
    assert "(wrong, expected 9)" in outcome(capfd, "check", NESTED, "--text", MEDIUM[:-1])[1]


def test_data_show(capfd, tiny_data_dir):
    code, out, _ = outcome(capfd, "data", "show", "-n", 2, "--split=longer", "--tfds_data_dir", tiny_data_dir)
    assert code == 0
    assert out.count("Final answer: ") == 2 * 3 and "├─" in out and "--- tiny/longer 1:" in out


def test_solve_with_the_model_that_ships(capfd):
    code, out, err = outcome(capfd, "solve", NESTED)
    assert (code, err) == (0, "")
    assert (
        out
        == f"{NESTED}\n"
        + "".join(f"  {line}\n" for line in MEDIUM.split("\n"))
        + "answer: 9 (correct; 2 of 2 steps correct)\n"
    )


def test_solve_says_what_it_does_not_know(capfd):
    code, out, err = outcome(capfd, "solve", "[MAX 2 10 ]")
    assert (code, out) == (2, "")
    assert err == (
        "explainft: error: 10 in '[MAX 2 10 ]' is outside 0 to 9, "
        "the values of config 'tiny' that the model was trained on\n"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_data_dir):
    """A run of two updates by the real recipe."""
    folder = tmp_path_factory.mktemp("runs") / "medium"
    flags = [
        "TRAIN_STEPS=2",
        "WARMUP_STEPS=1",
        "EVALUATOR_NUM_EXAMPLES=4",
        "EVAL_PERIOD=2",
        "EVAL_STEPS=1",
        "LOG_PERIOD=1",
    ]
    main(
        ["train", RECIPE, f"--gin.MODEL_DIR={folder}", *(f"--gin.{f}" for f in flags), "--tfds_data_dir", tiny_data_dir]
    )
    return folder


def test_train_eval_infer_export_report(capfd, trained, tmp_path, tiny_data_dir):
    text = (trained / "config.gin").read_text()
    assert "TRAIN_STEPS = 2" in text
    code, out, err = outcome(capfd, "eval", trained, "--num_examples=3", "--tfds_data_dir", tiny_data_dir)
    assert code == 0, err
    tasks = [
        f"explained_tiny_medium_eval_{split}_compact" for split in ("larger_numbers", "longer", "test", "validation")
    ]
    assert [line.split()[0] for line in out.splitlines()] == tasks
    assert json.loads((trained / "inference_eval" / f"{tasks[2]}-metrics.jsonl").read_text())["n"] == 3

    expressions, answers = tmp_path / "in.txt", tmp_path / "out.jsonl"
    expressions.write_text(f"{NESTED}\n\n( ( ( [SUM 1 ) 2 ) ] )\n")
    assert outcome(capfd, "infer", trained, "--input", expressions, "--output", answers)[0] == 0
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["expression"] for line in lines] == [NESTED, "[SUM 1 2 ]"]
    assert set(lines[0]) == {"expression", "answer", "explanation", "check"}

    released = tmp_path / "released.tsv"
    released.write_text('Source\tTarget\n( ( ( [SM 1 ) 2 ) ] )\t3\n[MED 1 4 ]\t"MED, 2\nFinal answer: 2"\n')
    assert outcome(capfd, "infer", trained, "--input", released, "--output", answers)[0] == 0
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["expression"] for line in lines] == ["[SUM 1 2 ]", "[MED 1 4 ]"]

    small = tmp_path / "small"
    assert outcome(capfd, "export", trained, small, "--dtype=bfloat16")[0] == 0
    assert outcome(capfd, "infer", small, NESTED)[0] == 0
    assert not [path for path in small.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    assert "exists; name a new folder" in outcome(capfd, "export", trained, small)[2]

    code, out, _ = outcome(capfd, "report", trained, "--output", tmp_path / "report")
    assert code == 0 and "medium" in out
    assert (tmp_path / "report" / "accuracy.png").stat().st_size > 5_000


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
            "--gin.BATCH_SIZE=3 sets a macro of a recipe, and this command was given none",
        ),
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
def test_a_mistake_gets_one_line_and_exit_code_2(capfd, words, message):
    code, out, err = outcome(capfd, *words)
    assert code == 2 and out == ""
    assert err.startswith("explainft: error: ") and err.count("\n") == 1
    assert message in err


def test_mistakes_about_a_run(capfd, trained, tmp_path, tiny_data_dir):
    def error(*words):
        code, out, err = outcome(capfd, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "has no checkpoint of step 7; it has [2]" in error("infer", trained, NESTED, "--step=7")
    assert "30 in '[MIN 30 1 ]' is outside 0 to 9" in error("infer", trained, "[MIN 30 1 ]")
    assert "did you mean 'explained_tiny_medium_eval" in error(
        "eval", trained, "--mixture=explained_tiny_medum_eval_compact"
    )
    (tmp_path / "in.txt").write_text(f"{NESTED}\n[MAX 1 oops ]\n")
    assert "in.txt line 2: " in error("infer", trained, "--input", tmp_path / "in.txt")
    (tmp_path / "in.tsv").write_text("Source\tTarget\n[MAX 1 2 ]\t2\n[MAX 1 2 ]\n")
    assert "in.tsv, line 3: expected 2 columns" in error("infer", trained, "--input", tmp_path / "in.tsv")
    assert "cannot write" in error("infer", trained, NESTED, "--output=/nonexistent/out.jsonl")
    assert not list(tmp_path.glob("*.jsonl"))
    words = ["train", RECIPE, f"--gin.MODEL_DIR={trained}", "--gin.MIXTURE_OR_TASK_NAME=explained_tiny_short_compact"]
    assert "holds a run with task='explained_tiny_medium_compact', not 'explained_tiny_short_compact'" in error(
        *words, "--tfds_data_dir", tiny_data_dir
    )


def test_nothing_to_answer(capfd, trained, tmp_path, monkeypatch):
    (tmp_path / "empty.txt").write_text("\n")
    assert "no expressions" in outcome(capfd, "infer", trained, "--input", tmp_path / "empty.txt")[2]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for command in ("solve", "explain"):
        code, out, err = outcome(capfd, command)
        assert (code, out, err.count("\n")) == (2, "", 1) and "no expressions" in err


def test_the_best_checkpoint_has_a_name(capfd, trained):
    assert outcome(capfd, "infer", trained, NESTED, "--step=best")[0] == 0
    assert "must be a positive integer" in outcome(capfd, "infer", trained, NESTED, "--step=bets")[2]


def test_a_closed_pipe_is_no_mistake():
    program = f"explainft explain {' '.join(repr(NESTED) for _ in range(3000))} | head -1"
    run = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env={**os.environ, "PATH": PATH})
    assert run.stdout == MEDIUM.split("\n")[0] + "\n" and run.stderr == ""


def test_a_module_beside_the_recipe(tmp_path, tiny_data_dir):
    (tmp_path / "my_tasks.py").write_text("import tasks\n\nassert tasks.__path__\n")
    (tmp_path / "tasks.py").write_text("import invoke\n")  # somebody else's, which does not take ours' place
    flags = "MODEL_DIR=run MIXTURE_OR_TASK_MODULE=my_tasks TRAIN_STEPS=1 WARMUP_STEPS=0"
    flags += " EVALUATOR_NUM_EXAMPLES=1 EVAL_STEPS=1 EMB_DIM=8 MLP_DIM=8"
    words = [RECIPE, *(f"--gin.{flag}" for flag in flags.split()), "--tfds_data_dir", tiny_data_dir]
    subprocess.run(["explainft", "train", *words], cwd=tmp_path, check=True, env={**os.environ, "PATH": PATH})
    assert (tmp_path / "run" / "checkpoints" / "checkpoint_1").is_dir()


def test_a_tilde_is_a_home_folder_in_every_flag(capfd, tmp_path, tiny_data_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, _, err = outcome(capfd, "train", RECIPE, "--gin.MODEL_DIR=~/file", "--tfds_data_dir", tiny_data_dir)
    assert code == 2 and f"MODEL_DIR='{tmp_path}/file'" in err
    code, _, err = outcome(capfd, "infer", "run", NESTED, "--output=~/missing/out.jsonl")
    assert code == 2 and f"cannot write {tmp_path}/missing/out.jsonl" in err
    assert not (tmp_path / "~").exists()


def test_the_cache_s_folder(capfd, tmp_path, monkeypatch):
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


def test_progress_is_quiet_where_nobody_watches(trained, tiny_data_dir, capfd):
    finished = [f"--gin.MODEL_DIR={trained}", "--gin.TRAIN_STEPS=2", "--gin.WARMUP_STEPS=1"]
    main(["train", RECIPE, *finished, "--tfds_data_dir", tiny_data_dir])
    assert capfd.readouterr() == ("", f"{trained} is complete at step 2: nothing to train\n")


def test_the_console_script_is_installed():
    script = Path(sys.executable).parent / "explainft"
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == __version__
