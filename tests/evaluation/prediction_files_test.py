"""The files of evaluations and inferences."""

import json
import threading

import pytest
import seqio

import tasks  # noqa: F401
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.evaluation import prediction_files
from explainft.evaluation.evaluator import Scores
from explainft.generation.generator import Output


@pytest.mark.usefixtures("seqio_unchanged")
def test_files_equal_seqio_s(tmp_path, tiny_data_dir):
    """The same targets and predictions, written by seqio.JSONLogger and by explainft."""
    name = "explained_tiny_medium_eval_test_compact"
    cache = token_cache.load(name, "validation", data_dir=tiny_data_dir)
    records, postprocess, [metric] = cache.records, cache.postprocess(), cache.metrics()
    targets = [postprocess(r["targets_pretokenized"], example=r, is_target=True) for r in records]
    predictions = [r["targets_pretokenized"] if i % 3 else "Final answer: 77" for i, r in enumerate(records)]
    scores = Scores(metric(targets, predictions), targets, predictions, [Output(text) for text in predictions])
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    prediction_files.write_scores(ours, name, 12, records, scores)
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(sequence_length=None, split="test", shuffle=False)
    scalars = {key: seqio.metrics.Scalar(value) for key, value in scores.metrics.items()}
    seqio.JSONLogger(str(theirs))(name, 12, scalars, dataset, {"prediction": predictions}, targets)
    for file in (f"{name}-metrics.jsonl", f"{name}-000012.jsonl"):
        a, b = (
            [json.loads(line) for line in (directory / file).read_text().splitlines()] for directory in (ours, theirs)
        )
        for row in b:
            if "input" in row:  # token ids, which our lines leave out
                del row["input"]["inputs"], row["input"]["targets"]
        assert a == b
    prediction_files.write_scores(ours, name, 12, records, scores._replace(metrics={"exact_match": 0.5}))
    [line] = (ours / f"{name}-metrics.jsonl").read_text().splitlines()  # a step evaluated again replaces its line
    assert json.loads(line) == {"step": 12, "exact_match": 0.5}


def write_metrics(directory, step):
    prediction_files.write_scores(directory, "a_task", step, [], Scores({"exact_match": 0.5}, [], [], []))
    return [json.loads(line)["step"] for line in (directory / "a_task-metrics.jsonl").read_text().splitlines()]


def test_concurrent_evaluations_keep_each_other_s_lines(tmp_path, monkeypatch):
    read, other = prediction_files.read_jsonl, threading.Thread(target=write_metrics, args=(tmp_path, 2))

    def read_while_the_other_writes(*file):
        rows = read(*file)
        if other.ident is None:
            other.start()
            other.join(0.3)
        return rows

    monkeypatch.setattr(prediction_files, "read_jsonl", read_while_the_other_writes)
    write_metrics(tmp_path, 1)
    other.join()
    assert write_metrics(tmp_path, 3) == [1, 2, 3]


def test_a_cut_off_last_line_is_skipped_and_other_corruption_refused(tmp_path):
    write_metrics(tmp_path, 1)
    file = tmp_path / "a_task-metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 2, "exact_')
    assert write_metrics(tmp_path, 3) == [1, 3]
    file.write_text('{"step": 2, "exact_' + file.read_text())
    with pytest.raises(UserError, match=f"{file} line 1 is corrupt; .* correct or delete"):
        write_metrics(tmp_path, 4)


def write_step(directory, n, step=7):
    rows = [{"inputs_pretokenized": "a"}] * n
    prediction_files.write_scores(
        directory, "a_task", step, rows, Scores({"exact_match": 0.5}, [None] * n, ["a"] * n, [Output("a")] * n)
    )


def test_scores_on_more_examples_are_replaced_with_overwrite_only(tmp_path):
    write_step(tmp_path, 20)
    for step, n, overwrite in ((7, 20, False), (7, 30, False), (7, 5, True), (8, 5, False)):
        prediction_files.check_scores_file(tmp_path, "a_task", step, n, overwrite)
    with pytest.raises(UserError, match="scores of a_task at step 7 on 20 examples, .* of 5 .* or give --overwrite"):
        prediction_files.check_scores_file(tmp_path, "a_task", 7, 5, overwrite=False)


def test_predictions_are_named_and_filled_as_t5x_does(tmp_path, capsys):
    records = [{"inputs_pretokenized": "[MAX 1 2 ]", "targets_pretokenized": "2", "answer": 2}]
    prediction_files.write_predictions(tmp_path, "a_task", records, ["3"])
    file = tmp_path / "a_task-predict.jsonl-00000-of-00001"
    inputs = {"inputs_pretokenized": "[MAX 1 2 ]", "targets_pretokenized": "2"}
    assert json.loads(file.read_text()) == {"inputs": inputs, "prediction": "3"}
    assert capsys.readouterr().out == f"{file}\n"
