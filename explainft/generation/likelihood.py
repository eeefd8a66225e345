"""The likelihood of given labels for many inputs: teacher forcing, without decoding.

Dimensions in names: N inputs, B inputs of a batch, S their length, L labels.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from explainft.core.errors import UserError
from explainft.core.process_pool import available_cores, map_in_order
from explainft.generation.batching import CONCURRENT_BATCHES
from explainft.generation.decoding import Tokens
from explainft.model.labels import MAX_TOKENS, Labels, label_log_likelihoods, own_label_log_likelihoods
from explainft.model.t5 import T5
from explainft.parallel import sharding

WIDTH_MULTIPLE = 16  # of padded inputs, so that few shapes compile
CPU_TOKENS = 2048  # of a batch: the attention scores and hidden states of more do not stay in the caches


def log_likelihoods(
    model: T5,
    params: Any,
    inputs: Sequence[Tokens],
    labels: Labels,
    batch_size: int,
    progress: Callable[[int], object] = lambda scored: None,
    prefixes: Sequence[Tokens] | None = None,
) -> np.ndarray:
    """Returns log p(label | input) [N, L], float64, of whole labels with EOS, for inputs that end with EOS.

    `params` are those of quantization.decode_parameters. The order of the labels changes no value. `progress` is called
    with the number of inputs just scored. `prefixes`, one for each input, are what the decoder reads before the label.
    Raises UserError for a label that the output layer cannot write, and where a likelihood is not finite.
    """
    order = sorted(range(len(labels.token_ids)), key=lambda i: labels.token_ids[i])
    in_order = Labels(tuple(labels.token_ids[i] for i in order))
    column_of = _columns(model, params, in_order)
    score_batch = functools.partial(_score_batch, model, in_order, None if column_of is None else tuple(column_of))
    features = [inputs] if prefixes is None else [inputs, prefixes]
    found_NL = np.zeros((len(inputs), len(order)))
    found_NL[:, order] = _score_in_batches(params, score_batch, len(order), features, batch_size, progress)
    return found_NL


def own_log_likelihoods(
    model: T5,
    params: Any,
    inputs: Sequence[Tokens],
    labels: Sequence[Labels],
    batch_size: int,
    progress: Callable[[int], object] = lambda scored: None,
) -> list[np.ndarray]:
    """Returns log p(label | input) for the labels of each input, float64, as `log_likelihoods` does for the same ones.

    Where the labels are long, fewer inputs than `batch_size` are scored at a time.
    """
    orders = [sorted(range(len(own.token_ids)), key=own.token_ids.__getitem__) for own in labels]
    in_order = [Labels(tuple(own.token_ids[i] for i in order)) for own, order in zip(labels, orders, strict=True)]
    column_of = _columns(model, params, Labels(tuple(ids for own in in_order for ids in own.token_ids)))
    num_labels = max(map(len, orders))
    score_batch = functools.partial(
        _score_own_batch, model, num_labels, None if column_of is None else tuple(column_of)
    )
    features = [inputs, *zip(*(own.row() for own in in_order), strict=True)]
    longest = _width(max(map(len, features[1])))
    batch_size = max(1, batch_size * MAX_TOKENS // max(MAX_TOKENS, longest))
    found_NL = _score_in_batches(params, score_batch, num_labels, features, batch_size, progress)
    found = [np.zeros(len(order)) for order in orders]
    for own, order, scored in zip(found, orders, found_NL, strict=True):
        own[order] = scored[: len(order)]
    return found


def _score_in_batches(
    params: Any,
    score_batch: Callable[..., Any],
    num_labels: int,
    features: Sequence[Sequence[Tokens]],
    batch_size: int,
    progress: Callable[[int], object],
) -> np.ndarray:
    """Returns `score_batch(params, *zero-padded features)` [N, num_labels] of all rows, in their order, float64."""
    n = len(features[0])
    one_cpu, batch_size = sharding.on_one_cpu(params), min(batch_size, n)
    batches = _plan_batches(features, batch_size, CPU_TOKENS if one_cpu else None)
    found_NL = np.zeros((n, num_labels))

    def score(rows: list[int]) -> np.ndarray:
        most = min(batch_size, 1 << (len(rows) - 1).bit_length()) if one_cpu else batch_size  # few shapes compile
        padded = [_pad([feature[i] for i in rows], most) for feature in features]
        return np.asarray(score_batch(params, *(sharding.put_rows_like(params, x) for x in padded)))[: len(rows)]

    with contextlib.ExitStack() as stack:
        run: Callable = map
        if one_cpu and len(batches) > 1:
            threads = min(CONCURRENT_BATCHES, available_cores())  # XLA computes attention on one core
            run = functools.partial(map_in_order, stack.enter_context(ThreadPoolExecutor(threads)), threads - 1)
        for rows, scored in zip(batches, run(score, batches), strict=True):
            found_NL[rows] = scored
            progress(len(rows))
    if not np.isfinite(found_NL).all():
        bad = int((~np.isfinite(found_NL)).any(axis=1).sum())
        raise UserError(f"{bad:,} of {n:,} inputs have a likelihood that is not finite; train the model again")
    return found_NL


def _plan_batches(features: Sequence[Sequence[Tokens]], batch_size: int, max_tokens: int | None) -> list[list[int]]:
    """Returns the places of the inputs of each batch, by their lengths.

    A batch has at most `batch_size` inputs, and a power of two of them whose padded tokens are at most `max_tokens`
    (None: any), at least one.
    """
    widths = [[_width(len(tokens)) for tokens in row] for row in zip(*reversed(features), strict=True)]
    batches: list[list[int]] = []
    widest: list[int] = []
    for place in sorted(range(len(widths)), key=lambda place: widths[place]):
        wider = list(map(max, widest or widths[place], widths[place]))
        rows = batch_size
        if max_tokens is not None:
            rows = min(rows, 1 << (max(1, max_tokens // sum(wider)).bit_length() - 1))
        if batches and len(batches[-1]) < rows:
            batches[-1].append(place)
            widest = wider
        else:
            batches.append([place])
            widest = widths[place]
    return batches


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _score_own_batch(
    model: T5,
    num_labels: int,
    column_of: tuple[int, ...] | None,
    params: Any,
    batch_BS: jax.Array,
    *decoder_row: jax.Array,
) -> Any:
    columns = None if column_of is None else np.array(column_of)
    return own_label_log_likelihoods(model, params, batch_BS, *decoder_row, num_labels=num_labels, column_of=columns)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _score_batch(
    model: T5,
    labels: Labels,
    column_of: tuple[int, ...] | None,
    params: Any,
    batch_BS: jax.Array,
    prefix_BP: jax.Array | None = None,
) -> Any:
    columns = None if column_of is None else np.array(column_of)
    return label_log_likelihoods(model, params, params, batch_BS, labels, columns, prefix_tokens=prefix_BP)


def _pad(sequences: Sequence[Tokens], rows: int) -> np.ndarray:
    padded = np.zeros((rows, _width(max(map(len, sequences)))), np.int32)
    for row, tokens in zip(padded, sequences, strict=False):
        row[: len(tokens)] = tokens
    return padded


def _width(length: int) -> int:
    return -(-length // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def _columns(model: T5, params: Any, labels: Labels) -> np.ndarray | None:
    """Returns each token id's column in the output layer; None where that is the id."""
    output_ids = params.get("output", {}).get("token_ids")  # see quantization.decode_parameters
    if output_ids is None:
        return None
    ids = np.asarray(output_ids)
    if not set(ids.tolist()).issuperset(token for label in labels.token_ids for token in label):
        raise UserError(
            "a label holds tokens that the run was not trained to write, OUTPUT_VOCABULARY='task'; choose other labels"
        )
    column_of = np.zeros(model.config.vocab_size, np.int32)
    column_of[ids] = np.arange(len(ids))
    return column_of


def probabilities(log_likelihoods_NL: np.ndarray) -> np.ndarray:
    """Returns the probability [N, L] of each label among the labels alone."""
    shifted = np.exp(log_likelihoods_NL - log_likelihoods_NL.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
