"""Evaluation's files and sums; decoding and scoring on real tasks are in train_test and main_test."""

import json
import threading

import numpy as np
import pytest
import seqio
import tensorflow as tf

import tasks  # noqa: F401
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.batches import Batches
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation import evaluate
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from tests.data.batches_test import write_cache
from tests.model.t5_test import params_of
from tests.training.train_test import MODEL


def test_the_evaluation_mixture_of_a_task():
    assert evaluate.evaluation_mixture("explained_tiny_medium_compact") == "explained_tiny_medium_eval_compact"
    assert evaluate.evaluation_mixture("explained_listops30_none") == "explained_listops30_none_eval"


def test_teacher_forced_loss_is_the_mean_over_tokens_whatever_the_batches(tmp_path):
    rng = np.random.default_rng(0)
    rows = [np.append(rng.integers(3, 150, n), 1) for n in (3, 9, 2, 5, 7)]
    cache = write_cache(tmp_path, rows, rows)
    mesh = sharding.make_mesh()
    scores = []
    for size, packed in ((1, False), (2, False), (4, True)):
        batches = Batches(cache, {"inputs": 20, "targets": 20}, size, 0, packed=packed)
        scores.append(evaluate.teacher_forced(T5(MODEL), Loss(), params_of(MODEL)["params"], batches, mesh, 100))
    assert scores[1] == pytest.approx(scores[0], rel=1e-5) and scores[2] == pytest.approx(scores[0], rel=1e-5)
    assert scores[0]["loss"] > 1.0


@pytest.mark.usefixtures("seqio_unchanged")
def test_files_are_those_of_seqio(tmp_path, tiny_data_dir):
    """The same targets and predictions, written by seqio.JSONLogger and by us."""
    name = "explained_tiny_medium_eval_test_compact"
    cache = token_cache.load(name, "validation", data_dir=tiny_data_dir)
    records, postprocess, [metric] = cache.records, cache.postprocess(), cache.metrics()
    targets = [postprocess(r["targets_pretokenized"], example=r, is_target=True) for r in records]
    predictions = [r["targets_pretokenized"] if i % 3 else "Final answer: 77" for i, r in enumerate(records)]
    metrics = metric(targets, predictions)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    evaluate.write(ours, name, 12, metrics, records, targets, predictions)
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(sequence_length=None, split="test", shuffle=False)
    scalars = {key: seqio.metrics.Scalar(value) for key, value in metrics.items()}
    seqio.JSONLogger(str(theirs))(name, 12, scalars, dataset, {"prediction": predictions}, targets)
    for file in (f"{name}-metrics.jsonl", f"{name}-000012.jsonl"):
        a, b = ([json.loads(line) for line in (folder / file).read_text().splitlines()] for folder in (ours, theirs))
        for row in b:
            if "input" in row:  # token ids, which our lines leave out
                del row["input"]["inputs"], row["input"]["targets"]
        assert a == b
    evaluate.write(ours, name, 12, {"exact_match": 0.5}, records, targets, predictions)
    [line] = (ours / f"{name}-metrics.jsonl").read_text().splitlines()  # a step evaluated again replaces its line
    assert json.loads(line) == {"step": 12, "exact_match": 0.5}


def write_metrics(folder, step):
    evaluate.write(folder, "a_task", step, {"exact_match": 0.5}, [], [], [])
    return [json.loads(line)["step"] for line in (folder / "a_task-metrics.jsonl").read_text().splitlines()]


def test_two_evaluations_at_once_keep_each_other_s_lines(tmp_path, monkeypatch):
    read, other = evaluate.read_jsonl, threading.Thread(target=write_metrics, args=(tmp_path, 2))

    def read_while_the_other_writes(*file):
        rows = read(*file)
        if other.ident is None:
            other.start()
            other.join(0.3)
        return rows

    monkeypatch.setattr(evaluate, "read_jsonl", read_while_the_other_writes)
    write_metrics(tmp_path, 1)
    other.join()
    assert write_metrics(tmp_path, 3) == [1, 2, 3]


def test_a_line_of_metrics_that_a_kill_cut_off_is_passed_over_and_other_damage_told(tmp_path):
    write_metrics(tmp_path, 1)
    file = tmp_path / "a_task-metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 2, "exact_')
    assert write_metrics(tmp_path, 3) == [1, 3]
    file.write_text('{"step": 2, "exact_' + file.read_text())
    with pytest.raises(UserError, match=f"{file} line 1 is corrupt; .* correct or delete"):
        write_metrics(tmp_path, 4)


def test_an_empty_file_is_no_vocabulary(tmp_path):
    (tmp_path / "vocabulary.model").write_bytes(b"")
    with pytest.raises(UserError, match="vocabulary.model is not a SentencePiece model .*; copy it again"):
        Vocabulary(tmp_path / "vocabulary.model")


def test_our_vocabulary_is_seqio_s(tiny_data_dir):
    theirs = seqio.get_mixture_or_task("explained_tiny_long_compact").output_features["targets"].vocabulary
    ours = Vocabulary(theirs.sentencepiece_model_file)
    text = "SUM operator so we have to add\n[MAX 12 [MIN 4 7 ] ] é"
    ids = ours.encode(text)
    assert ids == theirs.encode(text) == theirs.encode_tf(tf.constant(text)).numpy().tolist()
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.size == theirs.vocab_size
    sentinels = Vocabulary(theirs.sentencepiece_model_file, extra_ids=5)
    their_sentinels = seqio.SentencePieceVocabulary(theirs.sentencepiece_model_file, extra_ids=5)
    assert sentinels.size == their_sentinels.vocab_size
    for beyond in (ours.size + 1, ours.size + 4, sentinels.size, sentinels.size + 7):
        assert sentinels.decode([*ids, beyond]) == their_sentinels.decode([*ids, beyond])
