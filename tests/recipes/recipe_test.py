"""Recipes: how they are read, what gin would have swallowed, and what the leaves say."""

import importlib
import logging
import re
import sys
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import pytest

from explainft.core.errors import UserError
from explainft.recipes import recipe, t5x_path
from explainft.training import optimizers, train

ROOT = Path(__file__).parents[2]
WIRINGS = {"T5X": ROOT / "gin", "built-in": recipe.WIRING / "gin"}
MEDIUM = str(ROOT / "gin" / "medium_tiny.gin")

STYLES = ("none", "short", "medium", "long")
# T5X's counts of the 1.0 family, and our own model.
PARAMETERS = {
    "tiny": 240_512,
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "3b": 2_851_598_336,
}
FINETUNED = [size for size in PARAMETERS if size != "tiny"]
TRAINING = [f"{style}_{size}" for size in PARAMETERS for style in STYLES]
SCORING = [f"{kind}_{size}" for size in PARAMETERS for kind in ("eval", "infer")]
# What the user of a leaf still has to give.
GIVEN = {
    "eval": ["CHECKPOINT_PATH=RUN/checkpoints/checkpoint_1", "EVAL_OUTPUT_DIR=FOLDER"],
    "infer": ["CHECKPOINT_PATH=RUN/checkpoints/checkpoint_1", "INFER_OUTPUT_DIR=FOLDER"],
    **{style: ["MODEL_DIR=RUN"] for style in STYLES},
}


def macro(name):
    return gin.query_parameter(f"{name}/gin.macro.value")


def leaf_path(leaf):
    return ROOT / "gin" / f"{leaf}.gin"


def load_leaf(leaf):
    recipe.load([str(leaf_path(leaf))], GIVEN[leaf.split("_")[0]])


def public_macros(path):
    """What a file of a wiring defines above the line "# ----", as written: the macros that both engines know."""
    lines = path.read_text().split("# ----")[0].splitlines()
    return dict(
        re.match(r"([A-Z_]+) = (.*?)(  #|$)", line).group(1, 2) for line in lines if re.match("[A-Z_]+ = ", line)
    )


def includes(leaf):
    return re.findall(r"include '(.+)'", leaf_path(leaf).read_text())


# ---- the leaves


def test_there_is_a_recipe_for_each_style_and_size_and_one_to_score_and_to_predict_for_each_size():
    assert {path.stem for path in (ROOT / "gin").glob("*.gin")} == {*TRAINING, *SCORING}


@pytest.mark.parametrize("leaf", TRAINING)
def test_a_leaf_trains_its_own_style_on_its_own_size(leaf):
    load_leaf(leaf)
    style, size = leaf.split("_")
    config = "tiny" if size == "tiny" else "listops30"
    assert macro("MIXTURE_OR_TASK_NAME").startswith(f"explained_{config}_{style}")
    assert macro("EVAL_MIXTURE").startswith(f"explained_{config}_{style}_eval_validation")
    assert macro("MIXTURE_OR_TASK_MODULE") == "tasks"


@pytest.mark.parametrize("leaf", [*TRAINING, *SCORING])
def test_a_leaf_holds_macros_that_both_engines_know_and_nothing_else(leaf):
    kind, size = leaf.split("_")
    run = kind if kind in ("eval", "infer") else "pretrain" if size == "tiny" else "finetune"
    assert includes(leaf) == [f"gin/models/{size}.gin", f"gin/runs/{run}.gin", "gin/tasks/listops.gin"]
    text = leaf_path(leaf).read_text()
    assert text.startswith(f"# explainft {kind if kind == run else 'train'} --gin_file=gin/{leaf}.gin --gin.")
    statements = [line for line in text.splitlines() if line and not line.startswith(("#", "include"))]
    names = [re.match(r"([A-Z_]+) = ", line).group(1) for line in statements]
    assert set(names) <= set(public_macros(ROOT / "gin" / "runs" / f"{run}.gin"))


@pytest.mark.parametrize("leaf", SCORING)
def test_the_built_in_engine_reads_a_leaf_that_scores_or_predicts(leaf):
    load_leaf(leaf)
    assert macro("MIXTURE_OR_TASK_NAME").startswith("explained_")


@pytest.mark.parametrize("size", PARAMETERS)
def test_the_models_have_the_sizes_of_the_family(size):
    load_leaf(f"medium_{size}")
    model = gin.get_bindings("train.train")["config"].model
    tokens = jnp.ones((1, 1), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[size]


# ---- the two wirings


@pytest.mark.parametrize("layer", ["models", "runs"])
def test_both_wirings_have_the_same_files_with_the_same_macros_and_defaults(layer):
    files = {engine: sorted((folder / layer).glob("*.gin")) for engine, folder in WIRINGS.items()}
    macros = {engine: {path.name: public_macros(path) for path in paths} for engine, paths in files.items()}
    assert macros["T5X"] == macros["built-in"]
    assert macros["T5X"]  # not two empty folders


def test_a_script_folder_with_a_tasks_module_of_its_own_leaves_the_path(tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT), *sys.path])
    importlib.reload(t5x_path)
    assert str(tmp_path) not in sys.path
    assert str(ROOT) in sys.path


# ---- the arithmetic of fine-tuning


def table_of_rows():
    """style -> (length of targets, rows an epoch), from the comment in gin/runs/finetune.gin."""
    text = (ROOT / "gin" / "runs" / "finetune.gin").read_text()
    found = re.findall(r"^#   (none|short|medium|long) +([\d,]+) +([\d,]+) ", text, re.MULTILINE)
    return {style: (number(length), number(rows)) for style, length, rows in found}


def number(text):
    return int(text.replace(",", ""))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", FINETUNED)
def test_the_steps_are_those_of_pre_training_and_thirty_epochs(style, size):
    load_leaf(f"{style}_{size}")
    length, rows = table_of_rows()[style]
    assert macro("TASK_FEATURE_LENGTHS") == {"inputs": 256, "targets": length}
    folder, before = re.fullmatch(
        r"gs://t5-data/pretrained_models/t5x/(\w+)/checkpoint_(\d+)", macro("INITIAL_CHECKPOINT_PATH")
    ).groups()
    assert folder.lower() == f"t5_{size}"
    steps = -(-30 * rows // macro("BATCH_SIZE"))
    assert macro("TRAIN_STEPS") == int(before) + steps
    arithmetic = re.search(r"TRAIN_STEPS = \d+  # (.+)", leaf_path(f"{style}_{size}").read_text()).group(1)
    written = [number(n) for n in re.findall(r"\d[\d,]*", arithmetic)]
    assert written == [int(before), 30, rows, macro("BATCH_SIZE"), steps]


def test_the_settings_of_the_paper():
    load_leaf("medium_small")
    assert (macro("LEARNING_RATE"), macro("SCHEDULE"), macro("WARMUP_STEPS")) == (3e-4, "constant", 0)
    assert macro("LOSS_NORMALIZING_FACTOR") == 2048 * 114
    rate = recipe.configured(optimizers.learning_rate)(train_steps=macro("TRAIN_STEPS"))
    assert float(rate(1_000_000)) == float(rate(macro("TRAIN_STEPS") - 1)) == pytest.approx(3e-4)


# ---- how a recipe is read


def test_a_recipe_binds_the_arguments_of_train(monkeypatch):
    recipe.load([MEDIUM], ["MODEL_DIR=/tmp/run", "TRAIN_STEPS=7", "WARMUP_STEPS=0"])
    seen = {}
    monkeypatch.setattr(
        train.token_cache, "load", lambda *a, **k: seen.update(k) or (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        recipe.configured(train.train)()
    text = recipe.operative()
    assert "TRAIN_STEPS = 7" in text and "NUM_LAYERS = 2" in text
    assert seen["task_module"] == "tasks"


def test_choices_tell_runs_apart_and_leave_out_what_is_default(monkeypatch):
    def choices(*bindings):
        recipe.load(["gin/medium_tiny.gin"], ["MODEL_DIR=run", *bindings])
        return recipe.choices().splitlines()

    plain = choices()
    assert "EMB_DIM = 64" in plain
    assert 'OPTIMIZER = "@adamw"' in plain  # no module's path
    assert not [line for line in plain if "MICROBATCHES" in line or "MODEL_DIR" in line or "%" in line]
    assert choices("MICROBATCHES=1") == plain
    assert set(choices("MICROBATCHES=2")) - set(plain) == {"MICROBATCHES = 2"}
    assert set(choices("loss.Loss.z_loss=0.5")) - set(plain) == {"Loss.z_loss = 0.5"}
    assert set(choices("EMB_DIM=32")) ^ set(plain) == {f"EMB_DIM = {n}" for n in (32, 64)}


def test_the_other_optimizer_is_a_macro():
    recipe.load(
        [MEDIUM], ["MODEL_DIR=x", "OPTIMIZER=@optimizers.adafactor", "CLIP_NORM=None", "EARLY_STOPPING_PATIENCE=3"]
    )
    assert macro("OPTIMIZER").selector == "optimizers.adafactor"


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
        (["MODEL_DIR=x", "OPTIMIZER=adamw"], "OPTIMIZER='adamw' is no reference like @optimizers.adamw"),
        (["MODEL_DIR=x", "KEEP_BEST=no"], "KEEP_BEST='no' is no True or False; the recipe has False"),
        (["MODEL_DIR=x", "MIXTURE_OR_TASK_NAME=3"], "MIXTURE_OR_TASK_NAME=3 is no text"),
        (["MODEL_DIR=x", "TASK_FEATURE_LENGTHS=3"], "TASK_FEATURE_LENGTHS=3 is no dictionary"),
        (["MODEL_DIR=x", "LEARNING_RATE=fast"], "LEARNING_RATE='fast' is no number; the recipe has 0.003"),
        (["MODEL_DIR=x", "BATCH_SIZE=1.5"], "BATCH_SIZE=1.5 is no whole number; the recipe has 32"),
        (["MODEL_DIR=x", "NUM_LAYERS=None"], "NUM_LAYERS=None is no value for it; the recipe has 2"),
        (["MODEL_DIR=x", "SCHEDULE=None"], "SCHEDULE=None is no value for it; the recipe has cosine"),
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
    broken.write_text("NOTHING = 1\n")
    with pytest.raises(UserError, match="configure `explainft train`; give one such as gin/medium_tiny.gin"):
        recipe.load([str(broken)], [], command="train")
    broken.write_text("include 'gin/models/none.gin'\n")
    with pytest.raises(UserError, match="gin/models/none.gin"):
        recipe.load([str(broken)], [])


def test_gin_says_nothing_while_it_searches(caplog, capfd):
    with caplog.at_level(logging.ERROR):
        recipe.load([MEDIUM], ["MODEL_DIR=x"])
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
