"""Values of the wrong type, out of range, or too large for the machine: one line, from a file or the command line."""

import pytest

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.recipes import machine_memory, recipe
from explainft.training import train
from tests.recipes.recipe_test import PARAMETERS, ROOT

TINY = str(ROOT / "gin" / "medium_tiny.gin")
WRONG = {
    "DROPOUT_RATE = None": "DROPOUT_RATE=None must be a number",
    "DROPOUT_RATE = 1.5": "DROPOUT_RATE=1.5 must be at least 0 and below 1",
    "MODEL_PARALLELISM = 0": "MODEL_PARALLELISM=0",
    "MODEL_PARALLELISM = 'x'": "MODEL_PARALLELISM='x' must be an integer",
    "SCHEDULE = 5": "SCHEDULE=5 must be a string",
    "SCHEDULE = None": "SCHEDULE=None must be a string",
    "LABEL_SMOOTHING = 'x'": "LABEL_SMOOTHING='x' must be a number",
    "MODEL = 5": "MODEL=5 must be a reference to an object, such as @t5.T5()",
    "MODEL = @optimizers.adamw": "MODEL=@optimizers.adamw must be a reference to an object, such as @t5.T5()",
    "OPTIMIZER = 'adamw'": "OPTIMIZER='adamw' must be a reference to a function, such as @optimizers.adamw",
    "NUM_LAYERS = %NUM_LAYERS": "NUM_LAYERS = %NUM_LAYERS is a cycle",
    "NUM_LAYERS = %NUM_ENCODER_LAYERS": "is a cycle",
    "NUM_LAYERS = None": "_LAYERS=None must be an integer",
    "RANDOM_SEED = 1180591620717411303424": "RANDOM_SEED=an integer of 22 digits must be at most 4,294,967,295",
    "RANDOM_SEED = -5000000000": "RANDOM_SEED=-5000000000 must be at least -4,294,967,295",
    f"TRAIN_STEPS = 1{'0' * 400}": "TRAIN_STEPS=an integer of 401 digits must be at most",
    "TRAIN_STEPS = 0": "TRAIN_STEPS=0 must be",
    "BATCH_SIZE = 1000000000000": "BATCH_SIZE=1000000000000 must be at most 4,294,967,295",
    "BATCH_SIZE = 1.5": "BATCH_SIZE=1.5 must be an integer",
    "BATCH_SIZE = True": "BATCH_SIZE=True must be an integer",
    "BATCH_SIZE = 4000000000": "BATCH_SIZE=4,000,000,000 needs",
    "VOCAB_SIZE = 10000000000": "VOCAB_SIZE=10000000000 must be at most 4,294,967,295",
    "VOCAB_SIZE = 2000000000": "parameters and their optimizer state need 1,430.5 GiB on each device, which has",
    "VOCAB_SIZE = 4000000000": "vocab_size=4,000,000,000 must be at most 2,147,483,647",
    "NUM_LAYERS = 4000000000": "num_encoder_layers=4,000,000,000 must be at most 1,000",
    "LEARNING_RATE = 1e400": "LEARNING_RATE=inf must be finite",
    "LEARNING_RATE = 'fast'": "LEARNING_RATE='fast' must be a number",
    "KEEP_BEST = 'no'": "KEEP_BEST='no' must be True or False",
    "MIXTURE_OR_TASK_NAME = 3": "MIXTURE_OR_TASK_NAME=3 must be a string",
    "TASK_FEATURE_LENGTHS = 3": "TASK_FEATURE_LENGTHS=3 must be a dictionary of a string -> an integer",
    "TASK_FEATURE_LENGTHS = {'inputs': 'x', 'targets': 3}": "must be a dictionary of a string -> an integer",
    "MLP_ACTIVATIONS = 'relu'": "MLP_ACTIVATIONS='relu' must be a tuple of which each item is a string",
    "LOSS_NORMALIZING_FACTOR = [1]": "LOSS_NORMALIZING_FACTOR=[1] must be a number or a string or None",
    "EARLY_STOPPING_PATIENCE = 'x'": "EARLY_STOPPING_PATIENCE='x' must be an integer or None",
    "MODEL_DIR = None": "MODEL_DIR=None must be a string",
}


@pytest.mark.parametrize("place", ["file", "command line"])
@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_one_line_and_exit_code_2(line, place, tmp_path, capsys):
    words = ["train", f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    if place == "file":
        (tmp_path / "own.gin").write_text(f"include '{TINY}'\n{line}\n")
        words[1:1] = [f"--gin_file={tmp_path / 'own.gin'}"]
        if line.startswith("MODEL_DIR"):
            del words[2]
    else:
        words += [f"--gin_file={TINY}", f"--gin.{line.replace(' = ', '=', 1)}"]
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    printed = capsys.readouterr()
    assert WRONG[line] in printed.err and printed.err.count("\n") == 1 and len(printed.err) < 500
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", PARAMETERS)
def test_the_memory_bound_counts_nearly_all_parameters(size):
    macros = ["MODEL_DIR=run"]
    model = recipe.load([str(ROOT / "gin" / f"medium_{size}.gin")], macros).bindings(train.train)["config"].model.config
    assert 0.99 * PARAMETERS[size] < machine_memory.count_kernels(model) <= PARAMETERS[size]


def test_adam_needs_three_times_the_parameters(monkeypatch):
    def check(memory, *bindings):
        monkeypatch.setattr(machine_memory, "device_memory", lambda: memory)
        found = recipe.load([TINY], ["MODEL_DIR=run", *bindings])
        machine_memory.check_training(found.bindings(train.train)["config"])

    check(12 * PARAMETERS["tiny"])
    with pytest.raises(UserError, match="239,616 parameters and their optimizer state need"):
        check(11 * PARAMETERS["tiny"])
    check(5 * PARAMETERS["tiny"], "OPTIMIZER=@optimizers.adafactor")


@pytest.mark.parametrize("command", ["eval", "infer"])
def test_a_model_too_large_to_load_is_refused(command, tmp_path, capsys):
    words = {"eval": "EVAL_OUTPUT_DIR", "infer": "INFER_OUTPUT_DIR"}
    flags = ["--gin.CHECKPOINT_PATH=x", f"--gin.{words[command]}={tmp_path / 'out'}", "--gin.VOCAB_SIZE=2000000000"]
    with pytest.raises(SystemExit) as exit:
        main([command, f"--gin_file={ROOT / 'gin' / command}_tiny.gin", *flags])
    assert exit.value.code == 2
    assert "parameters need" in capsys.readouterr().err
