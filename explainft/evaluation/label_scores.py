"""The likelihood of given labels for the inputs of a questions file or of a task."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from explainft.checkpoints import convert
from explainft.core.errors import UserError
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.inference_inputs import input_reader, read_lines
from explainft.evaluation.loading import load_evaluation_tasks, load_model, own_vocabulary
from explainft.generation.likelihood import log_likelihoods, probabilities
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.model.labels import encode_labels


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """The inputs' rows [N], the labels [L], log-likelihoods [N, L] of whole labels, and the labels' tokens with EOS."""

    rows: list[Mapping[str, Any]]
    labels: list[str]
    log_likelihoods: np.ndarray
    num_tokens: np.ndarray

    def json(self) -> Iterator[dict[str, Any]]:
        """Yields each row with its labels: log-likelihoods, their means over tokens, and both as probabilities."""
        mean = self.log_likelihoods / self.num_tokens
        columns = {
            "log_likelihood": self.log_likelihoods,
            "probability": probabilities(self.log_likelihoods),
            "log_likelihood_mean": mean,
            "probability_mean": probabilities(mean),
        }
        for i, row in enumerate(self.rows):
            scored = [
                {"label": label, **{name: float(values[i, j]) for name, values in columns.items()}}
                for j, label in enumerate(self.labels)
            ]
            yield {**row, "labels": scored, "label": self.labels[int(self.log_likelihoods[i].argmax())]}


def read_labels(path: Path) -> list[str]:
    """Returns the labels of a file, one a line."""
    labels = [text for _, text in read_lines(path)]
    if not labels:
        raise UserError(f"{path} has no labels; give one a line")
    return labels


def score_labels(
    checkpoint: str,
    labels: Sequence[str],
    file: Path | None,
    task: str | None,
    step: int | str | None,
    batch_size: int,
    decode_dtype: str,
    tfds_data_dir: str | None = None,
) -> LabelScores:
    """Scores the labels for the questions of a file, or for the examples of an evaluation task of the run's module.

    Raises UserError for labels that cannot be scored, and for inputs that the run cannot answer.
    """
    weights = convert.open_weights(checkpoint, step)
    vocabulary = weights.tokenizer()
    encoded = encode_labels(labels, vocabulary)
    prefixes = None  # what the decoder reads before a label
    if not weights.meta:
        raise UserError(f"{weights.origin} does not contain its task; give the MODEL_DIR of a run of explainft")
    if task is None:
        assert file is not None
        parsed = input_reader(weights.meta, weights.origin).read(file)
        rows: list[Mapping[str, Any]] = [one.row for one in parsed]
        inputs = [[*vocabulary.encode(one.text), EOS_ID] for one in parsed]
    else:
        module, config = weights.meta["module"], weights.architecture()
        caches = load_evaluation_tasks(
            task, module, "validation", tfds_data_dir, config, weights, own_vocabulary(weights)
        )
        records = [(cache.task, record) for cache in caches for record in cache.records]
        rows = [
            {"task": name, "inputs": record["inputs_pretokenized"], "targets": record["targets_pretokenized"]}
            for name, record in records
        ]
        inputs = [cache.inputs[i].tolist() for cache in caches for i in range(len(cache))]
        of_caches = [cache.prefixes() for cache in caches]
        if None not in of_caches:
            prefixes = [prefix for of_cache in of_caches for prefix in of_cache or ()]
    with tqdm(total=len(inputs), desc="scoring", unit=" inputs", disable=None, leave=False) as bar:
        loaded = load_model(weights, DecodeConfig(decode_dtype), batch_size)
        params = decode_parameters(loaded.model.config, loaded.params, decode_dtype, weights.meta["output_ids"])
        found = log_likelihoods(loaded.model, params, inputs, encoded, batch_size, bar.update, prefixes)
    return LabelScores(rows, list(labels), found, encoded.lengths)
