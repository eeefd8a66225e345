"""`explainft score`: a verifier's scores of a sample file, and of given labels."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

from explainft.checkpoints import convert, export, run_checkpoint
from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.sample_datasets import unpack_digests
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.generation.likelihood import log_likelihoods
from explainft.model.labels import encode_labels
from explainft.model.t5 import T5
from explainft.model.verifier_losses import BinaryLoss, MarginLoss
from explainft.samples.dataset import SamplesDataset, make_dataset
from explainft.samples.examples import Selection
from explainft.samples.files import read_samples
from explainft.samples.prompts import read_prompt
from explainft.training.config import DatasetConfig
from tests.helpers import training
from tests.helpers.questions import train_vocabulary
from tests.helpers.sample_files import sampled_row, write_sample_rows

TASK = "explained_tiny_verifier_compact"
PROMPT = "{question}\n{solution}"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("samples")
    files = {
        split: [write_sample_rows(directory / f"{split}.jsonl", [sampled_row(i) for i in of_split])]
        for split, of_split in (("train", range(12)), ("validation", range(20, 26)))
    }
    make_dataset(SamplesDataset("tiny", ["verifier"], files, Selection(PROMPT, 4, 0)), directory)
    return directory


def train(run, data_dir, steps, name="tiny", **changes):
    dataset = DatasetConfig(f"explained_{name}_verifier_compact", None, 8, "tasks.samples")
    evaluation = EvaluationConfig(f"explained_{name}_verifier_eval_validation_compact", period=2, batch_size=16)
    training.run(run, str(data_dir), steps, **{"dataset": dataset, "evaluation": evaluation, **changes})


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(directory, data_dir, 2)
    return directory


def evaluated(run):
    file = run / "inference_eval" / "explained_tiny_verifier_eval_validation_compact-metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def decoder_run(data_dir, tmp_path_factory):
    """A verifier whose decoder reads the solution."""
    files = {split: [data_dir / f"{split}.jsonl"] for split in ("train", "validation")}
    selection = Selection(read_prompt("decoder"), 4, 0, "steps")
    make_dataset(SamplesDataset("decoder", ["verifier"], files, selection), data_dir)
    directory = tmp_path_factory.mktemp("runs") / "decoder"
    train(directory, data_dir, 2, "decoder", loss=BinaryLoss())
    return directory


def score(*words):
    main(["score", *map(str, words)])


def refused(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        score(*words)
    error = capsys.readouterr().err
    assert error.startswith("explainft: error: ") and error.count("\n") == 1
    return error


@pytest.fixture
def samples(tmp_path):
    return write_sample_rows(tmp_path / "samples.jsonl", [sampled_row(i, correct=3) for i in range(40, 44)])


def test_an_untrained_verifier_has_an_accuracy_near_one_half(data_dir, tmp_path):
    still = training.functools.partial(training.optimizers.learning_rate, "constant", 0.0, 1)
    train(tmp_path / "run", data_dir, 2, schedule=still)
    [found] = evaluated(tmp_path / "run")
    assert found["exact_match"] == pytest.approx(0.5, abs=0.15) and found["label_correct"] == 0.5
    assert found["chance"] == 0.5 and found["parseable"] == 1.0 and found["n"] == 24


def test_a_run_keeps_its_prompt_and_its_questions(run):
    meta = run_checkpoint.open_run(run).meta
    assert meta["verifier"]["prompt"] == PROMPT and meta["dataset_digest"]
    assert meta["explanation"] is None and "questions" not in meta


def test_scores_are_ratios_of_whole_labels(run, samples, tmp_path, capsys):
    score(run, samples, "--output", tmp_path / "scored.jsonl")
    printed = capsys.readouterr().out
    assert "20 samples of 4 problems, 60.0% correct" in printed and "of length alone" in printed
    before, after = (read_samples(file) for file in (samples, tmp_path / "scored.jsonl"))
    for old, new in zip(before, after, strict=True):
        assert [dataclasses.replace(sample, score=None) for sample in new.samples] == list(old.samples)
        assert new.target == old.target
        scoring = new.row["scoring"]
        assert {**new.row, "samples": None} == {**old.row, "samples": None, "scoring": scoring}
        assert (scoring["step"], scoring["prompt"], scoring["decode_dtype"]) == (2, PROMPT, "float32")
    weights = run_checkpoint.open_run(run)
    vocabulary = weights.tokenizer()
    text = f"{before[1].target.example['question']}\n{before[1].samples[3].text}"
    tokens, labels = [*vocabulary.encode(text), EOS_ID], encode_labels(("correct", "incorrect"), vocabulary)
    [[a, b]] = log_likelihoods(T5(weights.architecture()), weights.tree(), [tokens], labels, 1)
    assert after[1].samples[3].score == pytest.approx(math.exp(a) / (math.exp(a) + math.exp(b)), rel=1e-4)


def test_exports_and_batch_sizes_give_the_same_scores(run, samples, tmp_path):
    export.export_run(run, tmp_path / "exported", None, "float32")
    score(run, samples, "--output", tmp_path / "a.jsonl")
    score(tmp_path / "exported", samples, "--output", tmp_path / "b.jsonl", "--batch_size=3")
    a, b = ([s.score for p in read_samples(tmp_path / f"{name}.jsonl") for s in p.samples] for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-5)
    scorings = [read_samples(tmp_path / f"{name}.jsonl")[0].row["scoring"] for name in "ab"]
    assert scorings[0] == scorings[1]


def test_a_checkpoint_without_metadata_needs_the_prompt(run, samples, tmp_path, capsys):
    convert.convert(str(run), tmp_path / "hf", "hf")
    assert "does not contain the prompt" in refused(capsys, tmp_path / "hf", samples, "--output=-")
    (tmp_path / "prompt.txt").write_text(PROMPT)
    score(tmp_path / "hf", samples, "--output", tmp_path / "a.jsonl", "--prompt", tmp_path / "prompt.txt")
    assert "that no problem is among them is not checked" in capsys.readouterr().err
    score(run, samples, "--output", tmp_path / "b.jsonl")
    a, b = ([s.score for p in read_samples(tmp_path / f"{name}.jsonl") for s in p.samples] for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_problems_that_the_verifier_trained_on_are_refused(run, tmp_path, capsys):
    rows = [sampled_row(i) for i in (40, 3, 41, 7)]
    rows[1]["question"] = rows[1]["question"].lower()
    file = write_sample_rows(tmp_path / "s.jsonl", rows)
    error = refused(capsys, run, file, "--output", tmp_path / "o.jsonl")
    assert "was trained on 2 of these 4 problems, such as id 'p3'; score problems that it was not" in error
    assert not (tmp_path / "o.jsonl").exists()


def test_questions_of_an_initial_checkpoint_stay_with_its_successors(run, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    files = {
        split: [write_sample_rows(other / f"{split}.jsonl", [sampled_row(i) for i in of_split])]
        for split, of_split in (("train", range(60, 64)), ("validation", range(20, 26)))
    }
    make_dataset(SamplesDataset("tiny", ["verifier"], files, Selection(PROMPT, 4, 0)), other)
    for steps in (4, 6):  # the second call resumes the first
        train(tmp_path / "next", other, steps, initial_checkpoint={"path": str(run)})
        meta = run_checkpoint.open_run(tmp_path / "next").meta
        assert meta["progress"]["first_step"] == 2 and len(unpack_digests(meta["trained_questions"])) == 12 + 4


def test_samples_of_another_problem_are_refused(run, tmp_path, capsys):
    file = write_sample_rows(tmp_path / "s.jsonl", [sampled_row(40, style="long")])
    assert "score samples of the verifier's own problem" in refused(capsys, run, file, "--output=-")


def test_a_run_that_is_not_a_verifier_is_refused(samples, capsys):
    from explainft.evaluation.infer import PRETRAINED

    assert "must be a task of samples with the rows 'verifier'" in refused(capsys, PRETRAINED, samples, "--output=-")


def test_unusable_commands_are_one_line(run, samples, tmp_path, capsys):
    for words, message in (
        ([run, "--output=-"], "give a file of samples"),
        ([run, samples, "--task=x", "--output=-"], "--task has questions, for which labels are scored"),
        ([run, samples, "--labels=a", "--labels_file=b", "--output=-"], "both give labels"),
        ([run, samples, "--labels=a", "--report=x", "--output=-"], "leave them out beside labels"),
        ([run, samples, "--output=/nonexistent/x"], "cannot write /nonexistent/x"),
        ([run, samples, "--prompt=short", "--output=-"], "leave out --prompt=short"),
        ([run, tmp_path / "none.jsonl", "--output=-"], "none.jsonl"),
        (["/nonexistent", samples, "--output=-"], "/nonexistent"),
    ):
        assert message in refused(capsys, *words)


def test_samples_without_answers_are_scored_and_not_calibrated(run, tmp_path, capsys):
    row = sampled_row(40)
    for sample in row["samples"]:
        del sample["correct"]
    file = write_sample_rows(tmp_path / "s.jsonl", [row])
    score(run, file, "--output", tmp_path / "o.jsonl")
    assert capsys.readouterr().out == f"{tmp_path / 'o.jsonl'}\n"
    assert all(sample.score is not None for sample in read_samples(tmp_path / "o.jsonl")[0].samples)


def test_one_class_is_stated_and_the_report_is_drawn(run, tmp_path, capsys):
    file = write_sample_rows(tmp_path / "s.jsonl", [sampled_row(i, incorrect=0) for i in (40, 41)])
    score(run, file, "--output", tmp_path / "o.jsonl", "--report", tmp_path / "report")
    assert "AUROC is undefined: all samples are correct" in capsys.readouterr().out
    assert json.loads((tmp_path / "report/calibration.json").read_text())["auroc"]["value"] is None
    assert (tmp_path / "report/reliability.png").stat().st_size > 5000


def test_labels_of_expressions(tmp_path, capsys):
    from explainft.evaluation.infer import PRETRAINED

    (tmp_path / "q.txt").write_text("[MAX 2 9 ]\n[MIN 4 7 ]\n")
    (tmp_path / "labels.txt").write_text("4\n\n9\n")
    for flag, output in (("--labels=4,9", "a"), (f"--labels_file={tmp_path / 'labels.txt'}", "b")):
        score(PRETRAINED, tmp_path / "q.txt", flag, "--output", tmp_path / output)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    first = json.loads((tmp_path / "a").read_text().splitlines()[0])
    assert first["expression"] == "[MAX 2 9 ]" and first["label"] in ("4", "9")
    assert sum(label["probability"] for label in first["labels"]) == pytest.approx(1)
    for label in first["labels"]:
        assert label["log_likelihood_mean"] == pytest.approx(label["log_likelihood"] / 2)  # a digit and EOS
    assert "label '4' is given twice" in refused(capsys, PRETRAINED, tmp_path / "q.txt", "--labels=4,4", "--output=-")


def test_labels_of_a_task_choose_as_its_evaluation_does(run, data_dir, tmp_path):
    task = "explained_tiny_verifier_eval_validation_compact"
    flags = ["--labels=correct,incorrect", f"--tfds_data_dir={data_dir}"]
    score(run, "--task", task, "--output", tmp_path / "labels.jsonl", *flags)
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    accuracy = sum(row["label"] == row["targets"] for row in rows) / len(rows)
    assert accuracy == evaluated(run)[-1]["exact_match"] and len(rows) == 24


def test_alpha_is_refused_beside_a_loss_of_the_score(data_dir, tmp_path):
    dataset = DatasetConfig(TASK, None, 8, "tasks.samples", alpha=0.5)
    for loss in (BinaryLoss(), MarginLoss()):
        with pytest.raises(UserError, match="ALPHA=0.5 weighs the tokens of targets"):
            train(tmp_path / "run", data_dir, 1, dataset=dataset, loss=loss)


def test_the_margin_loss_trains_and_resumes(data_dir, tmp_path):
    settings = {"loss": MarginLoss(margin=0.5)}
    train(tmp_path / "whole", data_dir, 4, **settings)
    train(tmp_path / "part", data_dir, 2, **settings)
    shutil.copytree(tmp_path / "part", tmp_path / "resumed")
    train(tmp_path / "resumed", data_dir, 4, **settings)
    losses = [
        [row["eval/loss"] for row in training.rows(tmp_path / name) if "eval/loss" in row]
        for name in ("whole", "resumed")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 2


@pytest.mark.parametrize("name", ["", "_compact"])
def test_a_solution_in_the_decoder_is_the_prefix_of_its_label(data_dir, decoder_run, tmp_path, name):

    own = None if name else str(train_vocabulary(tmp_path / "own.model"))
    task = f"explained_decoder_verifier_eval_validation{name}"
    cache = token_cache.load(task, "validation", "tasks.samples", str(data_dir), vocabulary_file=own)
    labels = encode_labels(("correct", "incorrect"), cache.vocabulary).token_ids
    for i, (record, prefix) in enumerate(zip(cache.records, cache.prefixes(), strict=True)):
        assert record["prefix"] and record["inputs_pretokenized"].startswith("[MAX")
        assert prefix.tolist() == cache.vocabulary.encode(f"{record['prefix']}\n")
        assert cache.targets[i][len(prefix) :].tolist() == list(labels[i % 2])


def test_scores_after_a_prefix_are_those_of_teacher_forcing(decoder_run, samples, tmp_path, capsys):
    score(decoder_run, samples, "--output", tmp_path / "scored.jsonl")
    assert "of the step checker" in capsys.readouterr().out
    [_, problem, *_] = read_samples(tmp_path / "scored.jsonl")
    assert problem.row["scoring"]["labeled_by"] == "steps"
    weights = run_checkpoint.open_run(decoder_run)
    vocabulary, model = weights.tokenizer(), T5(weights.architecture())
    inputs = np.array([[*vocabulary.encode(problem.target.example["question"]), EOS_ID]])
    prefix, found = vocabulary.encode(f"{problem.samples[3].text}\n"), []
    for label in encode_labels(("correct", "incorrect"), vocabulary).token_ids:
        targets = np.array([[*prefix, *label]])
        shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
        logits = np.asarray(model.apply({"params": weights.tree()}, inputs, shifted, targets), np.float64)[0]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        found.append(log_p[np.arange(len(prefix), targets.shape[1]), list(label)].sum())
    assert problem.samples[3].score == pytest.approx(1 / (1 + math.exp(found[1] - found[0])), rel=1e-4)


def test_labels_of_a_task_are_scored_after_its_prefixes(decoder_run, data_dir, tmp_path):
    task = "explained_decoder_verifier_eval_validation_compact"
    output = tmp_path / "labels.jsonl"
    score(decoder_run, "--task", task, "--labels=correct,incorrect", "--tfds_data_dir", data_dir, "--output", output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    accuracy = sum(row["label"] == row["targets"].splitlines()[-1] for row in rows) / len(rows)
    file = decoder_run / "inference_eval" / f"{task}-metrics.jsonl"
    assert accuracy == json.loads(file.read_text().splitlines()[-1])["exact_match"]
    assert {row["label"] for row in rows} <= {"correct", "incorrect"}
