"""A run on imported questions: trained, resumed, evaluated and asked, in the tests' own process."""

import dataclasses
import json
import shutil

import pytest

from explainft.checkpoints import run_checkpoint
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.evaluation.evaluate import EvaluationConfig, evaluate_run
from explainft.evaluation.infer import infer
from explainft.generation.quantization import DecodeConfig
from explainft.model.t5 import T5
from explainft.samples.files import read_samples
from explainft.training.config import DatasetConfig
from explainft.training.context import choose_lengths
from tests.helpers import training
from tests.helpers.command import outcome
from tests.helpers.questions import import_homes, train_vocabulary

TASK = "explained_homes_explain_answer"
MODEL = T5(dataclasses.replace(training.MODEL, vocab_size=400))


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """The directory of the dataset, and of a vocabulary beside it."""
    directory = tmp_path_factory.mktemp("homes")
    import_homes(directory, directory)
    train_vocabulary(directory / "homes.model")
    return directory


def dataset(homes, **changes):
    vocabulary = str(homes / "homes.model")
    return DatasetConfig(TASK, None, 8, "tasks.questions", vocabulary_file=vocabulary, **changes)


def train(run, homes, steps, **changes):
    evaluation = EvaluationConfig(f"{TASK}_eval_validation", period=2, batch_size=16)
    settings = {"model": MODEL, "dataset": dataset(homes), "evaluation": evaluation}
    training.run(run, str(homes), steps, **{**settings, **changes})


@pytest.fixture(scope="module")
def run(homes, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(directory, homes, 2)
    return directory


def losses(run):
    return [{name: v for name, v in row.items() if "loss" in name} for row in training.rows(run) if "step" in row]


def load(homes, split):
    return token_cache.load(TASK, split, "tasks.questions", str(homes), vocabulary_file=str(homes / "homes.model"))


def test_tokens_are_of_the_vocabulary_file(homes):
    cache = load(homes, "validation")
    assert cache.vocabulary.path.read_bytes() == (homes / "homes.model").read_bytes()
    assert cache.vocabulary.decode(cache.targets[0][:-1].tolist()) == cache.records[0]["targets_pretokenized"]
    assert "\n" in cache.records[0]["targets_pretokenized"]


def test_what_a_vocabulary_cannot_write_is_reported(homes, tmp_path, capsys):
    assert load(homes, "validation").lost() == []
    with pytest.raises(UserError, match="vocab_size=9 is smaller"):
        train(tmp_path / "run", homes, 1, model=T5(dataclasses.replace(training.MODEL, vocab_size=9)))
    file = str(train_vocabulary(tmp_path / "poor.model", 80, without="?"))
    poor = token_cache.load(TASK, "validation", "tasks.questions", str(homes), vocabulary_file=file)
    inputs, *_ = poor.lost()
    assert inputs.startswith("12 of 12 inputs of validation hold tokens that this vocabulary cannot write: ")
    assert "'?' 12" in inputs
    train(tmp_path / "poor", homes, 1, dataset=dataclasses.replace(dataset(homes), vocabulary_file=file))
    printed = capsys.readouterr().out
    assert "60 of 60 inputs of train hold tokens" in printed and inputs in printed


def test_row_lengths_hold_the_longest_example(homes, run):
    chosen = choose_lengths(dataset(homes), lambda task, split: load(homes, split)).lengths()
    longest = [load(homes, split).lengths() for split in ("train", "validation")]
    for feature, length in chosen.items():
        exact = max(lengths[feature] for lengths in longest)
        assert exact <= length < exact + 16 and length % 16 == 0
    assert run_checkpoint.open_run(run).meta["data"]["task_feature_lengths"] == chosen
    given = DatasetConfig(TASK, {"inputs": 8, "targets": 8}, 8)
    assert choose_lengths(given, lambda task, split: pytest.fail("nothing is read")) is given


def test_a_run_resumes_and_reports_its_lengths(homes, run, tmp_path, capsys):
    train(tmp_path / "run", homes, 1)
    assert "TASK_FEATURE_LENGTHS = {'inputs': " in capsys.readouterr().out
    train(tmp_path / "run", homes, 2)
    assert losses(tmp_path / "run")[-1] == losses(run)[-1]


def test_another_vocabulary_is_refused(homes, run, tmp_path):
    other = train_vocabulary(tmp_path / "other.model", 298)
    with pytest.raises(UserError, match="holds a run with another vocabulary"):
        train(run, homes, 4, dataset=dataclasses.replace(dataset(homes), vocabulary_file=str(other)))


def test_another_import_of_the_dataset_is_refused(homes, run, tmp_path):
    train(tmp_path / "run", homes, 1)
    shutil.copytree(homes, tmp_path / "again")
    import_homes(tmp_path / "again", tmp_path / "again", first_seed=3, overwrite=True)
    again = dataset(tmp_path / "again")
    lengths = run_checkpoint.open_run(tmp_path / "run").meta["data"]["task_feature_lengths"]
    with pytest.raises(UserError, match="holds a run with another import of its dataset"):
        train(tmp_path / "run", tmp_path / "again", 2, dataset=dataclasses.replace(again, task_feature_lengths=lengths))


def test_a_run_is_evaluated_in_its_own_vocabulary(homes, run, capsys):
    evaluate_run(run, None, None, 16, None, None, DecodeConfig(), str(homes))
    printed = capsys.readouterr().out
    assert f"{TASK}_eval_validation step 2: exact_match" in printed and f"{TASK}_eval_test step 2" in printed
    row = json.loads((run / "inference_eval" / f"{TASK}_eval_test-metrics.jsonl").read_text())
    assert row["n"] == 8 and row["chance"] == 0.25 and 0 <= row["cut"] <= 1


def test_a_run_is_asked(run):
    [found] = infer(run, [{"question": "Where does the fish live?", "choices": ["sea", "air"], "id": 7}])
    assert found.json()["id"] == 7 and set(found.json()["prediction"]) >= {"answer", "text"}


def test_a_run_is_sampled(homes, run, tmp_path, capfd):
    sampled, asked, flags = tmp_path / "sampled.jsonl", tmp_path / "asked.jsonl", ["--num_samples", 3, "--seed", 1]
    data = ["--dataset", "homes", "--split", "test", "--tfds_data_dir", homes]
    assert outcome(capfd, "sample", run, *data, *flags, "--output", sampled)[0] == 0
    problems = read_samples(sampled)
    assert len(problems) == 8 and all(len(problem.samples) == 3 for problem in problems)
    assert {problem.target.form for problem in problems} == {"explain_answer"}
    assert all(problem.target.is_correct(problem.target.read_answer(problem.gold)) for problem in problems)
    # The file is one of questions too. The same ids have the same samples, here up to another length limit.
    assert outcome(capfd, "sample", run, "--input", sampled, *flags, "--output", asked)[0] == 0
    texts = [[[s.text[:20] for s in problem.samples] for problem in of] for of in (problems, read_samples(asked))]
    assert texts[0] == texts[1]
    assert outcome(capfd, "vote", sampled)[1].startswith("8 problems, 24 samples")


def test_a_file_that_is_no_vocabulary_is_refused(homes, tmp_path):
    (tmp_path / "text.model").write_text("text")
    with pytest.raises(UserError, match="text.model is not a SentencePiece model"):
        token_cache.load(TASK, "train", "tasks.questions", str(homes), vocabulary_file=str(tmp_path / "text.model"))
