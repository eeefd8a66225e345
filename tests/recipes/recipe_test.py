"""Recipes: how they are read and checked, and what the leaves set."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from explainft.core.errors import UserError
from explainft.data import multitask
from explainft.data.questions.names import FORMS
from explainft.model.loss import Loss
from explainft.model.verifier_losses import BinaryLoss, MarginLoss
from explainft.recipes import recipe, t5x_tasks
from explainft.training import optimizers, train

ROOT = Path(__file__).parents[2]
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
QUESTIONS = [f"questions_{size}" for size in PARAMETERS]
VERIFIERS = [f"verifier_{size}" for size in PARAMETERS]
MULTITASK = [f"multitask_{size}" for size in PARAMETERS]
BASE = ["base_tiny"]
FEW_SHOT = [f"few_shot_{size}" for size in PARAMETERS]
SCORING = [f"{kind}_{size}" for size in PARAMETERS for kind in ("eval", "infer")]
# What the user of a leaf still has to give.
GIVEN = {
    "eval": ["CHECKPOINT_PATH=RUN/checkpoints/checkpoint_1", "EVAL_OUTPUT_DIR=DIRECTORY"],
    "infer": ["CHECKPOINT_PATH=RUN/checkpoints/checkpoint_1", "INFER_OUTPUT_DIR=DIRECTORY"],
    **{style: ["MODEL_DIR=RUN"] for style in STYLES},
    "questions": ["MODEL_DIR=RUN", "DATASET=homes", "VOCABULARY_FILE=homes.model"],
    "verifier": ["MODEL_DIR=RUN", "DATASET=homes"],
    "multitask": ["MODEL_DIR=RUN"],
    "base": ["MODEL_DIR=RUN"],
    "few_shot": ["MODEL_DIR=RUN"],
}


def load_leaf(leaf):
    return recipe.load([str(leaf_path(leaf))], GIVEN[leaf.rpartition("_")[0]])


def leaf_path(leaf):
    return ROOT / "gin" / f"{leaf}.gin"


def public_macros(path):
    """What a file of macros defines above the line "# ----", as written: the macros that both engines read."""
    lines = path.read_text().split("# ----")[0].splitlines()
    return dict(
        re.match(r"([A-Z_0-9]+) = (.*?)(  #|$)", line).group(1, 2) for line in lines if re.match("[A-Z_0-9]+ = ", line)
    )


def includes(leaf):
    return re.findall(r"include '(.+)'", leaf_path(leaf).read_text())


# ---- the leaves


def test_each_style_and_size_has_a_recipe():
    assert {path.stem for path in (ROOT / "gin").glob("*.gin")} == {
        *TRAINING,
        *QUESTIONS,
        *VERIFIERS,
        *MULTITASK,
        *BASE,
        *FEW_SHOT,
        *SCORING,
    }


@pytest.mark.parametrize("leaf", TRAINING)
def test_a_leaf_trains_its_own_style_and_size(leaf):
    macros = load_leaf(leaf).macros
    style, size = leaf.split("_")
    config = "tiny" if size == "tiny" else "listops30"
    assert macros["MIXTURE_OR_TASK_NAME"].startswith(f"explained_{config}_{style}")
    assert macros["EVAL_MIXTURE"].startswith(f"explained_{config}_{style}_eval_validation")
    assert macros["MIXTURE_OR_TASK_MODULE"] == "tasks"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaf", QUESTIONS)
def test_a_leaf_trains_on_a_dataset_and_a_form(leaf, form):
    loaded = recipe.load([str(leaf_path(leaf))], [*GIVEN["questions"], f"FORM={form}"], command="train")
    config = loaded.bindings(train.train)["config"]
    assert config.dataset.mixture_or_task_name == f"explained_homes_{form}"
    assert config.evaluation.mixture_or_task_name == f"explained_homes_{form}_eval_validation"
    assert config.dataset.module == "tasks.questions" and config.dataset.vocabulary_file == "homes.model"
    assert config.dataset.task_feature_lengths is None
    assert {'DATASET = "homes"', f'FORM = "{form}"'} <= set(loaded.settings())


def test_an_unknown_form_is_refused():
    with pytest.raises(
        UserError, match="FORM='explain' must be one of answer, explain_answer, answer_explain, single, mt_re"
    ):
        recipe.load([str(leaf_path("questions_tiny"))], [*GIVEN["questions"], "FORM=explain"], command="train")


@pytest.mark.parametrize("leaf", MULTITASK)
def test_a_leaf_trains_a_multitask_form(leaf):
    for form in multitask.FORMS:
        config = load_given(leaf, f"FORM={form}", "STYLE=long")
        style, suffix = ("none" if form == "single" else "long"), ("_compact" if leaf == "multitask_tiny" else "")
        name = f"explained_{'tiny' if suffix else 'listops30'}_{style}_{form}"
        assert config.dataset.mixture_or_task_name == name + suffix
        assert config.evaluation.mixture_or_task_name == f"{name}_eval_validation{suffix}"
        assert config.dataset.module == "tasks.multitask" and config.dataset.alpha == 0.5
    assert load_given(leaf, "ALPHA=0.9").dataset.alpha == 0.9


@pytest.mark.parametrize("leaf", FEW_SHOT)
def test_a_leaf_trains_with_demonstrations(leaf):
    suffix = "_compact" if leaf == "few_shot_tiny" else ""
    name = f"explained_{'tiny' if suffix else 'listops30'}_medium"
    for given, settings in (
        (["SHOTS=4"], "4_shot"),
        (["SHOTS=0", "TEMPLATE=reworded", "DEMONSTRATIONS=sampled"], "0_shot_reworded"),
        (["SHOTS=1", "DEMONSTRATIONS=sampled", "DEMONSTRATIONS_SEED=5"], "1_shot_sampled_5"),
    ):
        config = load_given(leaf, *given)
        assert config.dataset.mixture_or_task_name == f"{name}_{settings}{suffix}"
        assert config.evaluation.mixture_or_task_name == f"{name}_{settings}_eval_validation{suffix}"
        assert config.dataset.module == "tasks.few_shot" and config.dataset.input_lengths() == {}
    config = load_given(leaf, "TASK_FEATURE_LENGTHS={'inputs': 96, 'targets': 8}")
    assert config.dataset.input_lengths() == {f"{name}_2_shot{suffix}": 96}
    own = load_given(
        leaf, "DATASET=homes", "FORM=explain_answer", "FEW_SHOT_VOCABULARY=t5", "VOCABULARY_FILE=own.model"
    )
    assert own.dataset.mixture_or_task_name == "explained_homes_explain_answer_2_shot"
    assert own.dataset.vocabulary_file == "own.model"


def load_given(leaf, *given):
    bindings = [*GIVEN[leaf.rpartition("_")[0]], *given]
    return recipe.load([str(leaf_path(leaf))], bindings, command="train").bindings(train.train)["config"]


def test_a_leaf_trains_the_base():
    config = load_given("base_tiny")
    assert config.dataset.mixture_or_task_name == "explained_base_compact" and config.dataset.module == "tasks.base"
    assert config.evaluation.mixture_or_task_name == "explained_base_eval_validation_compact"


@pytest.mark.parametrize("leaf", VERIFIERS)
def test_a_leaf_trains_a_verifier_with_either_loss(leaf):
    for name, kind in (("cross_entropy", Loss), ("binary", BinaryLoss), ("margin", MarginLoss)):
        given = [*GIVEN["verifier"], f"VERIFIER_LOSS={name}", "MARGIN=0.25"]
        config = recipe.load([str(leaf_path(leaf))], given, command="train").bindings(train.train)["config"]
        suffix = "_compact" if leaf == "verifier_tiny" else ""
        assert config.dataset.mixture_or_task_name == f"explained_homes_verifier{suffix}"
        assert config.evaluation.mixture_or_task_name == f"explained_homes_verifier_eval_validation{suffix}"
        assert config.dataset.module == "tasks.samples" and type(config.optimization.loss) is kind
    assert config.optimization.loss.margin == 0.25


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ROWS=verifiers", "--rows='verifiers' must be one or several of verifier,correct,gold"),
        ("SAMPLES_VOCABULARY=T5", "SAMPLES_VOCABULARY='T5' must be one of t5, compact"),
        ("VERIFIER_LOSS=hinge", "VERIFIER_LOSS='hinge' must be 'cross_entropy', 'binary' or 'margin'"),
        ("MARGIN=-1", "MARGIN=-1 must be a number of at least 0"),
    ],
)
def test_wrong_settings_of_a_verifier_are_refused(given, words):
    bindings = [*GIVEN["verifier"], "VERIFIER_LOSS=margin", given]
    with pytest.raises(UserError, match=words):
        recipe.load([str(leaf_path("verifier_tiny"))], bindings, command="train")


@pytest.mark.parametrize("leaf", [*TRAINING, *QUESTIONS, *VERIFIERS, *MULTITASK, *FEW_SHOT, *BASE, *SCORING])
def test_a_leaf_sets_only_macros_that_both_engines_read(leaf):
    kind, _, size = leaf.rpartition("_")
    run = kind if kind in ("eval", "infer") else "pretrain" if size == "tiny" else "finetune"
    tasks = {"verifier": "samples"} | {name: name for name in ("questions", "multitask", "few_shot", "base")}
    tasks = tasks.get(kind, "listops")
    assert includes(leaf) == [f"gin/models/{size}.gin", f"gin/runs/{run}.gin", f"gin/tasks/{tasks}.gin"]
    text = leaf_path(leaf).read_text()
    assert text.startswith(f"# explainft {kind if kind == run else 'train'} --gin_file=gin/{leaf}.gin --gin.")
    # A vocabulary of one's own needs a model of its size.
    own = {
        "questions_tiny": {"VOCAB_SIZE", "VOCABULARY_FILE"},
        "verifier_tiny": {"SAMPLES_VOCABULARY"},
        "multitask_tiny": {"MULTITASK_VOCABULARY"},
        "few_shot_tiny": {"FEW_SHOT_VOCABULARY"},
    }.get(leaf, set()) | {"multitask": {"DATASET"}, "few_shot": {"DATASET", "FORM"}}.get(kind, set())
    assert set(macros_of(leaf_path(leaf))) <= set(public_macros(ROOT / "gin" / "runs" / f"{run}.gin")) | own


def macros_of(path):
    """The names that a file sets. Fails on a line that is neither a macro, an include nor a comment."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "include"))]
    return [re.match(r"([A-Z_0-9]+) = ", line).group(1) for line in lines]


@pytest.mark.parametrize("directory", ["models", "runs", "tasks"])
def test_macro_files_hold_names_and_values_only(directory):
    files = sorted((ROOT / "gin" / directory).glob("*.gin"))
    assert files
    for file in files:
        assert macros_of(file)
        assert set(re.findall(r"include '(gin/\w+)/", file.read_text())) <= {f"gin/{directory}", "gin/t5x"}


def test_both_engines_have_the_same_wiring_files():
    ours, theirs = ({path.name for path in d.glob("*.gin")} for d in (recipe.WIRING, ROOT / "gin" / "t5x"))
    assert ours == theirs and len(ours) == 10


@pytest.mark.parametrize("leaf", SCORING)
def test_the_built_in_engine_reads_a_leaf_that_scores_or_predicts(leaf):
    assert load_leaf(leaf).macros["MIXTURE_OR_TASK_NAME"].startswith("explained_")


@pytest.mark.parametrize("size", PARAMETERS)
def test_models_have_the_sizes_of_the_family(size):
    model = load_leaf(f"medium_{size}").bindings(train.train)["config"].model
    tokens = jnp.ones((1, 1), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[size]


def test_a_script_directory_with_another_tasks_module_leaves_the_path(tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT), *sys.path])
    importlib.reload(t5x_tasks)
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
    macros = load_leaf(f"{style}_{size}").macros
    length, rows = table_of_rows()[style]
    assert macros["TASK_FEATURE_LENGTHS"] == {"inputs": 256, "targets": length}
    folder, before = re.fullmatch(
        r"gs://t5-data/pretrained_models/t5x/(\w+)/checkpoint_(\d+)", macros["INITIAL_CHECKPOINT_PATH"]
    ).groups()
    assert folder.lower() == f"t5_{size}"
    steps = -(-30 * rows // macros["BATCH_SIZE"])
    assert macros["TRAIN_STEPS"] == int(before) + steps
    arithmetic = re.search(r"TRAIN_STEPS = \d+  # (.+)", leaf_path(f"{style}_{size}").read_text()).group(1)
    written = [number(n) for n in re.findall(r"\d[\d,]*", arithmetic)]
    assert written == [int(before), 30, rows, macros["BATCH_SIZE"], steps]


def test_the_settings_of_the_paper():
    loaded = load_leaf("medium_small")
    macros = loaded.macros
    assert (macros["LEARNING_RATE"], macros["SCHEDULE"], macros["WARMUP_STEPS"]) == (3e-4, "constant", 0)
    assert macros["LOSS_NORMALIZING_FACTOR"] == 2048 * 114
    rate = loaded.build(optimizers.learning_rate)(train_steps=macros["TRAIN_STEPS"])
    assert float(rate(1_000_000)) == float(rate(macros["TRAIN_STEPS"] - 1)) == pytest.approx(3e-4)
