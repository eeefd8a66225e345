"""Verifiers with a label after each line: what they train on, and how they score."""

import math

import pytest

from explainft.checkpoints import run_checkpoint
from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.sample_datasets import label_lines, prefix_spans
from explainft.data.target_parts import CONTEXT
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.generation.likelihood import log_likelihoods
from explainft.model.labels import encode_labels
from explainft.model.t5 import T5
from explainft.model.verifier_losses import BinaryLoss
from explainft.samples.dataset import SamplesDataset, make_dataset
from explainft.samples.examples import Selection
from explainft.samples.files import read_samples
from explainft.samples.prompts import read_prompt
from explainft.training.config import DatasetConfig
from tests.helpers import training
from tests.helpers.questions import train_vocabulary
from tests.helpers.sample_files import sampled_row, write_sample_rows

TASK, EVALUATION = "explained_steps_verifier", "explained_steps_verifier_eval_validation"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("samples")
    files = {
        split: [write_sample_rows(directory / f"{split}.jsonl", [sampled_row(i) for i in of_split])]
        for split, of_split in (("train", range(12)), ("validation", range(20, 26)))
    }
    selection = Selection(read_prompt("decoder"), 4, 0, "each_step", "dataset")
    make_dataset(SamplesDataset("steps", ["verifier"], files, selection), directory)
    return directory


def train(directory, data_dir, **changes):
    dataset = DatasetConfig(f"{TASK}_compact", None, 8, "tasks.samples")
    evaluation = EvaluationConfig(f"{EVALUATION}_compact", period=2, batch_size=16)
    training.run(directory, str(data_dir), 2, dataset=dataset, evaluation=evaluation, **changes)


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(directory, data_dir)
    return directory


def load(data_dir, task, split, suffix, tmp_path):
    own = None if suffix else str(train_vocabulary(tmp_path / "own.model"))
    return token_cache.load(f"{task}{suffix}", split, "tasks.samples", str(data_dir), vocabulary_file=own)


@pytest.mark.parametrize("suffix", ["", "_compact"])
def test_all_labels_of_a_training_target_carry_loss_and_nothing_else_does(data_dir, tmp_path, suffix):
    cache = load(data_dir, TASK, "train", suffix, tmp_path)
    vocabulary = cache.vocabulary
    for i, record in enumerate(cache.records):
        words = record["prefix"].split("\n")[1::2] + [record["targets_pretokenized"].rpartition("\n")[2]]
        expected = [token for word in words for token in vocabulary.encode(word)] + [EOS_ID]
        parts = cache.target_parts[i]
        assert cache.targets[i][parts != CONTEXT].tolist() == expected
        assert set(words[:-1]) <= {"correct"}
        assert record["targets_pretokenized"].startswith(record["prefix"])


@pytest.mark.parametrize("suffix", ["", "_compact"])
def test_an_evaluation_predicts_the_last_label_after_the_spans_of_a_score(data_dir, tmp_path, suffix):
    cache = load(data_dir, EVALUATION, "validation", suffix, tmp_path)
    labels = encode_labels(("correct", "incorrect"), cache.vocabulary).token_ids
    found = set()
    for i, (record, prefix) in enumerate(zip(cache.records, cache.prefixes(), strict=True)):
        spans = prefix_spans(record["prefix"], "each_step")
        assert prefix.tolist() == [token for span in spans for token in cache.vocabulary.encode(span)]
        found.add(labels.index(tuple(cache.targets[i][len(prefix) :].tolist())))
    assert found == {0, 1}


def test_a_score_is_the_product_over_the_lines(run, tmp_path):
    samples, output = tmp_path / "samples.jsonl", tmp_path / "scored.jsonl"
    write_sample_rows(samples, [sampled_row(i) for i in range(40, 43)])
    main(["score", str(run), str(samples), "--output", str(output)])
    weights = run_checkpoint.open_run(run)
    vocabulary, model = weights.tokenizer(), T5(weights.architecture())
    labels = encode_labels(("correct", "incorrect"), vocabulary)
    for problem in read_samples(output):
        assert problem.row["scoring"]["labeled_by"] == "each_step"
        sample, expected = problem.samples[-1], 1.0
        lines = sample.text.split("\n")
        assert len(lines) == 3
        for number in range(1, 4):
            prefix = label_lines("\n".join(lines[:number]))
            tokens = [t for span in prefix_spans(prefix, "each_step") for t in vocabulary.encode(span)]
            question = [*vocabulary.encode(problem.target.example["question"]), EOS_ID]
            [[correct, incorrect]] = log_likelihoods(model, weights.tree(), [question], labels, 1, prefixes=[tokens])
            expected *= 1 / (1 + math.exp(incorrect - correct))
        # Two train steps leave a preference for the shorter label: what tells scores apart is the distance from 1.
        assert 1 - sample.score == pytest.approx(1 - expected, rel=1e-3)


def test_a_loss_of_the_score_is_refused(data_dir, tmp_path):
    with pytest.raises(UserError, match="must have the labels correct and incorrect alone.*VERIFIER_LOSS"):
        train(tmp_path / "run", data_dir, loss=BinaryLoss())
