"""How recipes are found, read, hashed and kept apart."""

import re
from pathlib import Path

import pytest

from explainft.core.errors import UserError
from explainft.model.loss import Loss
from explainft.recipes import listing, recipe
from explainft.training import train

ROOT = Path(__file__).parents[2]
MEDIUM = str(ROOT / "gin" / "medium_tiny.gin")


def load(*bindings, files=(MEDIUM,), **named):
    return recipe.load(files, ["MODEL_DIR=run", *bindings], **named)


def test_a_recipe_binds_the_arguments_of_train(monkeypatch):
    loaded = load("TRAIN_STEPS=7", "WARMUP_STEPS=0")
    seen = {}
    monkeypatch.setattr(
        train.token_cache, "load", lambda *a, **k: seen.update(k) or (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        loaded.build(train.train)()
    text = loaded.config_text()
    assert "TRAIN_STEPS = 7" in text and "NUM_LAYERS = 2" in text
    assert seen["task_module"] == "tasks"


def test_two_recipes_stay_apart():
    first, second = load("EMB_DIM=32"), load("EMB_DIM=128")
    assert [r.bindings(train.train)["config"].model.config.emb_dim for r in (first, second, first)] == [32, 128, 32]
    assert "EMB_DIM = 128" in second.settings() and "EMB_DIM = 32" in first.settings()


def test_settings_name_macros_and_values_and_leave_out_defaults():
    def settings(*bindings):
        return set(load(*bindings).settings())

    plain = settings()
    assert {"EMB_DIM = 64", 'OPTIMIZER = "@adamw"'} <= plain
    assert not [line for line in plain if re.search("explainft|MICROBATCHES|MODEL|%|checkpoints", line)]
    assert settings("MICROBATCHES=1") == plain
    assert settings("MICROBATCHES=2") - plain == {"MICROBATCHES = 2"}
    assert settings("loss.Loss.z_loss=0.5") - plain == {"Loss.z_loss = 0.5"}
    assert settings("EMB_DIM=32") ^ plain == {f"EMB_DIM = {n}" for n in (32, 64)}


def test_a_hash_depends_on_settings_alone(tmp_path):
    here = load()
    assert here.hash() == recipe.load([MEDIUM], ["MODEL_DIR=elsewhere"]).hash() == load("MICROBATCHES=1").hash()
    assert len({here.hash(), here.hash("more"), load("MICROBATCHES=2").hash(), load("EMB_DIM=32").hash()}) == 4


def test_the_other_optimizer_is_a_macro():
    loaded = load("OPTIMIZER=@optimizers.adafactor", "CLIP_NORM=None", "EARLY_STOPPING_PATIENCE=3")
    assert 'OPTIMIZER = "@adafactor"' in loaded.settings()


def test_an_argument_can_be_bound_without_a_macro():
    assert load("loss.Loss.z_loss=0.1").build(Loss)().z_loss == 0.1


# ---- where files are looked for


def test_a_recipe_outside_the_repository_includes_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load().macros["MODEL_DIR"] == "run"
    (tmp_path / "own.gin").write_text(f"include '{MEDIUM}'\nTRAIN_STEPS = 5\nWARMUP_STEPS = 0\n")
    assert load(files=["own.gin"]).macros["TRAIN_STEPS"] == 5
    assert Path.cwd() == tmp_path


def test_the_current_directory_goes_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(files=["gin/medium_tiny.gin"]).macros["NUM_LAYERS"] == 2  # the package's
    (tmp_path / "gin" / "models").mkdir(parents=True)
    (tmp_path / "gin" / "models" / "tiny.gin").write_text(f"include '{ROOT}/gin/models/tiny.gin'\nNUM_LAYERS = 3\n")
    assert load(files=["gin/medium_tiny.gin"]).macros["NUM_LAYERS"] == 3
    (tmp_path / "gin" / "medium_tiny.gin").write_text(
        "include 'gin/none_tiny.gin'\nTRAIN_STEPS = 9\nWARMUP_STEPS = 1\n"
    )
    assert load(files=["gin/medium_tiny.gin"]).macros["TRAIN_STEPS"] == 9


def test_a_search_path_is_looked_in(tmp_path, monkeypatch):
    (tmp_path / "shared.gin").write_text("TRAIN_STEPS = 6\nWARMUP_STEPS = 0\n")
    (tmp_path / "gin").mkdir()
    (tmp_path / "gin" / "own.gin").write_text(f"include '{MEDIUM}'\ninclude 'mine/shared.gin'\n")
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "shared.gin").rename(tmp_path / "elsewhere" / "mine" / "shared.gin")
    own = [str(tmp_path / "gin" / "own.gin")]
    with pytest.raises(UserError, match="mine/shared.gin"):
        load(files=own)
    assert load(files=own, search_paths=[str(tmp_path / "elsewhere")]).macros["TRAIN_STEPS"] == 6


def test_the_wiring_is_the_package_s_in_any_directory(tmp_path, monkeypatch):
    (tmp_path / "gin" / "t5x").mkdir(parents=True)
    (tmp_path / "gin" / "t5x" / "model.gin").write_text("import t5x_is_not_here\n")
    monkeypatch.chdir(tmp_path)
    assert load(files=["gin/medium_tiny.gin"])


def test_reading_prints_and_logs_nothing(caplog, capfd):
    with caplog.at_level(0):
        load()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_the_package_lists_its_recipes():
    found = {entry.name: entry for entry in listing.list_recipes()}
    assert set(found) == {f"gin/{path.name}" for path in (ROOT / "gin").glob("*.gin")}
    assert (found["gin/medium_3b.gin"].size, found["gin/medium_3b.gin"].style) == ("3b", "medium")
    assert found["gin/eval_tiny.gin"].style is None
    header, first, *_ = listing.format_recipes().splitlines()
    assert header.startswith("recipe") and re.search(r"^gin/\w+_tiny.gin +tiny +\S+ +explainft \w+ --gin_file=", first)


# ---- bindings and errors


@pytest.mark.parametrize(
    ("binding", "value"),
    [
        ("MODEL_DIR=/tmp/a run", "/tmp/a run"),
        ("MODEL_DIR='quoted'", "quoted"),
        ('MODEL_DIR="quoted"', "quoted"),
        ("MODEL_DIR=gs://bucket/run=1", "gs://bucket/run=1"),
        ("MODEL_DIR=it's", "it's"),
        ("INITIAL_CHECKPOINT_PATH=None", None),
    ],
)
def test_bare_words_are_quoted(binding, value):
    assert load(binding).macros[binding.partition("=")[0]] == value


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["MODEL_DIR=x", "TRAIN_STEP=3"], "nothing reads the macro TRAIN_STEP; did you mean 'TRAIN_STEPS'"),
        ([], "needs a value for MODEL_DIR; give --gin.MODEL_DIR=VALUE"),
        (["MODEL_DIR"], "--gin.MODEL_DIR lacks a value"),
        (["MODEL_DIR="], "--gin.MODEL_DIR= has no value; an unset shell variable?"),
        (["MODEL_DIR=x", "train.train.steps=3"], "doesn't have a parameter named 'steps'"),
        (["MODEL_DIR=x", "TRAIN_STEPS=%NOWHERE"], "needs a value for NOWHERE"),
        (["MODEL_DIR=x", "loss.Loss.z_loss=high"], "Loss.z_loss='high' must be a number"),
    ],
)
def test_an_error_of_the_command_line_is_one_line(bindings, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        recipe.load([MEDIUM], bindings)
    assert "\n" not in caught.value.line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRAIN_STEPS = [1, \n", "broken.gin"),
        ("NOTHING = 1\n", "configure `explainft train`; give one such as gin/medium_tiny.gin"),
        ("include 'gin/eval_tiny.gin'\n", "does not configure `explainft train` but `explainft eval`"),
        ("include 'gin/models/none.gin'\n", "gin/models/none.gin"),
    ],
)
def test_an_error_of_a_file_is_one_line(tmp_path, text, message):
    (tmp_path / "broken.gin").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        recipe.load([str(tmp_path / "broken.gin")], [], command="train")
    assert "\n" not in caught.value.line


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match="no recipe 'gin/nine.gin' in .* `explainft recipes` lists"):
        recipe.load(["gin/nine.gin"], [])
