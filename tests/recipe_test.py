"""Recipes: how they are read, and what gin would have swallowed."""

import logging
import re
from pathlib import Path

import gin
import pytest

from explainft import recipe, train
from explainft.errors import UserError

ROOT = Path(__file__).parent.parent
LEAVES = sorted((ROOT / "gin").glob("*.gin"))
MEDIUM = str(ROOT / "gin" / "medium_tiny.gin")


def macro(name):
    return gin.query_parameter(f"{name}/gin.macro.value")


def test_there_is_a_tiny_recipe_for_each_style():
    assert {f"{style}_tiny.gin" for style in ("none", "short", "medium", "long")} <= {path.name for path in LEAVES}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda path: path.stem)
def test_a_leaf_reads_every_macro_it_sets_and_trains_its_own_style(leaf):
    recipe.load([str(leaf)], ["MODEL_DIR=/tmp/run"])
    style, size = leaf.stem.split("_")
    assert f"_{style}" in macro("MIXTURE_OR_TASK_NAME")
    assert f"_{style}_eval" in macro("EVAL_MIXTURE")
    assert macro("MIXTURE_OR_TASK_MODULE") == "tasks"
    includes = re.findall(r"include '(.+)'", leaf.read_text())
    assert [Path(i).parent.name for i in includes] == ["models", "runs", "tasks"]
    assert Path(includes[0]).stem == size
    statements = [line for line in leaf.read_text().splitlines() if line and not line.startswith(("#", "include"))]
    assert all(re.match(r"[A-Z_]+ = ", line) for line in statements)  # macros only


def test_a_recipe_binds_the_arguments_of_train(monkeypatch):
    recipe.load([MEDIUM], ["MODEL_DIR=/tmp/run", "TRAIN_STEPS=7"])
    seen = {}
    monkeypatch.setattr(
        train.token_cache, "load", lambda *a, **k: seen.update(k) or (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        recipe.configured(train.train)()
    text = recipe.operative()
    assert "TRAIN_STEPS = 7" in text and "num_encoder_layers = 2" in text
    assert seen["task_module"] == "tasks"


def test_the_other_optimizer_is_a_macro():
    recipe.load([MEDIUM], ["MODEL_DIR=x", "OPTIMIZER=@optim.adafactor", "CLIP_NORM=None", "EARLY_STOPPING_PATIENCE=3"])
    assert macro("OPTIMIZER").selector == "optim.adafactor"


def test_an_argument_can_be_bound_itself():
    recipe.load([MEDIUM], ["MODEL_DIR=x", "loss.Loss.z_loss=0.1"])
    assert gin.query_parameter("loss.Loss.z_loss") == 0.1


def test_recipes_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.load([MEDIUM], ["MODEL_DIR=x"])
    assert macro("MODEL_DIR") == "x"
    (tmp_path / "own.gin").write_text(f"include '{MEDIUM}'\nTRAIN_STEPS = 5\n")
    recipe.load(["own.gin"], ["MODEL_DIR=x"], [str(ROOT)])
    assert macro("TRAIN_STEPS") == 5
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("binding", "value"),
    [
        ("MODEL_DIR=/tmp/a run", "/tmp/a run"),
        ("MODEL_DIR='quoted'", "quoted"),
        ('MODEL_DIR="quoted"', "quoted"),
        ("MODEL_DIR=None", None),
        ("MODEL_DIR=gs://bucket/run=1", "gs://bucket/run=1"),
        ("MODEL_DIR=it's", "it's"),
    ],
)
def test_bare_words_are_quoted(binding, value):
    recipe.load([MEDIUM], [binding])
    assert macro("MODEL_DIR") == value


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["MODEL_DIR=x", "TRAIN_STEP=3"], "nothing reads the macro TRAIN_STEP; did you mean 'TRAIN_STEPS'"),
        ([], "needs a value for MODEL_DIR; give --gin.MODEL_DIR=VALUE"),
        (["MODEL_DIR"], "--gin.MODEL_DIR lacks a value"),
        (["MODEL_DIR="], "--gin.MODEL_DIR= has no value; an unset shell variable?"),
        (["MODEL_DIR=x", "OPTIMIZER=adamw"], "OPTIMIZER='adamw' is no reference like @optim.adamw"),
        (["MODEL_DIR=x", "KEEP_BEST=no"], "KEEP_BEST='no' is no True or False; the recipe has False"),
        (["MODEL_DIR=x", "MIXTURE_OR_TASK_NAME=3"], "MIXTURE_OR_TASK_NAME=3 is no text"),
        (["MODEL_DIR=x", "TASK_FEATURE_LENGTHS=3"], "TASK_FEATURE_LENGTHS=3 is no dictionary"),
        (["MODEL_DIR=x", "LEARNING_RATE=fast"], "LEARNING_RATE='fast' is no number; the recipe has 0.003"),
        (["MODEL_DIR=x", "BATCH_SIZE=1.5"], "BATCH_SIZE=1.5 is no whole number; the recipe has 32"),
        (["MODEL_DIR=x", "train.train.steps=3"], "doesn't have a parameter named 'steps'"),
        (["MODEL_DIR=x", "TRAIN_STEPS=%NOWHERE"], "needs a value for NOWHERE"),
    ],
)
def test_mistakes(bindings, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        recipe.load([MEDIUM], bindings)
    assert "\n" not in caught.value.line


def test_mistakes_in_files(tmp_path):
    with pytest.raises(UserError, match="no recipe 'gin/none.gin'"):
        recipe.load(["gin/none.gin"], [])
    broken = tmp_path / "broken.gin"
    broken.write_text("TRAIN_STEPS = [1, \n")
    with pytest.raises(UserError, match="broken.gin"):
        recipe.load([str(broken)], [])
    broken.write_text("include 'gin/models/none.gin'\n")
    with pytest.raises(UserError, match="gin/models/none.gin"):
        recipe.load([str(broken)], [])


def test_gin_says_nothing_while_it_searches(caplog, capfd):
    with caplog.at_level(logging.ERROR):
        recipe.load([MEDIUM], ["MODEL_DIR=x"])
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
