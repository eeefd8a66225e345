"""The task of the user's own in docs/guides/own-task.md scores what it should."""

import sys

import pytest
import seqio
import tensorflow_datasets as tfds

from tests.docs.pages import ROOT, read_blocks

GUIDE = ROOT / "docs" / "guides" / "own-task.md"


@pytest.fixture
def own_tasks(tmp_path, tiny_data_dir, monkeypatch, registries, seqio_unchanged):
    [module] = [block.body for block in read_blocks(GUIDE, "python") if block.file == "my_tasks.py"]
    (tmp_path / "my_tasks.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", tiny_data_dir)
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    import my_tasks  # pyright: ignore[reportMissingImports]

    yield my_tasks
    del sys.modules["my_tasks"]


def evaluate(output_of):
    """Returns the metrics of the evaluation task, where `output_of` makes an example's output of its target."""
    vocabulary = seqio.get_mixture_or_task("my_answer_first_eval").output_features["targets"].vocabulary

    def predict(dataset, model_feature_shapes=None):
        rows = list(tfds.as_numpy(dataset))
        outputs = [output_of(vocabulary.decode(row["decoder_target_tokens"].tolist())) for _, row in rows]
        ids = [vocabulary.encode(output) for output in outputs]
        width = max(map(len, ids))
        return [(index, [*row, *[0] * (width - len(row))]) for (index, _), row in zip(rows, ids, strict=True)]

    converter = seqio.EncDecFeatureConverter(pack=False)
    evaluator = seqio.Evaluator("my_answer_first_eval", converter, eval_split="test")
    metrics, _ = evaluator.evaluate(compute_metrics=True, step=0, predict_fn=predict)
    return metrics.result()["my_answer_first_eval"]


def test_own_task_scores_gold_outputs_as_correct(own_tasks):
    scores = evaluate(lambda target: target)
    assert scores["exact_match"] == scores["valid"] == 1.0 and scores["n"] == 40


def test_own_task_scores_other_answers_as_incorrect(own_tasks):
    scores = evaluate(lambda target: "\n".join(["Final answer: 77", *target.split("\n")[1:]]))
    assert scores["exact_match"] == 0.0 and scores["step_accuracy"] == 1.0


def test_own_task_trains_on_the_answer_first(own_tasks):
    task = seqio.get_mixture_or_task("my_answer_first")
    dataset = task.get_dataset(sequence_length=None, split="train", shuffle=False)
    target = next(iter(tfds.as_numpy(dataset)))["targets_pretokenized"].decode()
    assert target.startswith("Final answer: ") and "answer" not in target.split("\n")[-1]
