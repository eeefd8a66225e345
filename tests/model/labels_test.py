"""The likelihood of whole labels, against teacher forcing of one label at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.data.vocabulary import Vocabulary
from explainft.generation import likelihood
from explainft.generation.likelihood import log_likelihoods, own_log_likelihoods, probabilities
from explainft.generation.quantization import decode_parameters
from explainft.model import labels as labels_module
from explainft.model.config import T5Config
from explainft.model.labels import Labels, encode_labels
from explainft.model.t5 import T5
from tests.helpers.questions import train_vocabulary

CONFIG = T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, num_encoder_layers=2, num_decoder_layers=2, head_dim=8, mlp_dim=32
)
MODEL = T5(CONFIG)
LABELS = Labels(((5, 7, 1), (5, 1), (9, 5, 8, 1)))  # two share a first token


@pytest.fixture(scope="module")
def params():
    tokens = jnp.ones((1, 1), jnp.int32)
    return MODEL.init(jax.random.key(0), tokens, tokens, tokens)["params"]


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return [[*rng.integers(2, 40, n), 1] for n in (11, 6, 30, 2, 17)]


def _after(config, params, tokens, prefix, labels):
    source = np.pad(np.array([tokens], np.int32), ((0, 0), (0, 32 - len(tokens))))
    found = []
    for ids in labels:
        targets = np.array([[*prefix, *ids]], np.int32)
        targets = np.pad(targets, ((0, 0), (0, 32 - targets.shape[1])))
        shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
        logits = np.asarray(logits_of(config, params, source, shifted, targets), np.float64)
        log_p = (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))[0, len(prefix) :]
        found.append(log_p[np.arange(len(ids)), list(ids)].sum())
    return np.array([found])


@functools.partial(jax.jit, static_argnums=0)
def logits_of(config, params, *tokens):
    return T5(config).apply({"params": params}, *tokens)


def teacher_forced(params, inputs, labels, output_ids=None, config=CONFIG, prefixes=None):
    """log p of each label, from the logits of one label at a time, in float64."""
    if prefixes is not None:  # one input at a time, whose labels begin with the prefix
        return np.concatenate(
            [_after(config, params, tokens, p, labels) for tokens, p in zip(inputs, prefixes, strict=True)]
        )
    source = np.zeros((len(inputs), 32), np.int32)
    for row, tokens in zip(source, inputs, strict=True):
        row[: len(tokens)] = tokens
    found = []
    for ids in labels:
        targets = np.tile(np.pad(np.array(ids, np.int32), (0, 4 - len(ids))), (len(inputs), 1))
        shifted = np.roll(targets, 1, axis=1)
        shifted[:, 0] = 0
        logits = np.asarray(logits_of(config, params, source, shifted, targets), np.float64)
        if output_ids is not None:
            logits[..., np.setdiff1d(np.arange(40), output_ids)] = -np.inf
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        found.append(log_p[:, np.arange(len(ids)), list(ids)].sum(axis=1))
    return np.stack(found, axis=1)


def test_equal_to_teacher_forcing(params, inputs):
    found = log_likelihoods(MODEL, params, inputs, LABELS, 2, (scored := []).append)
    np.testing.assert_allclose(found, teacher_forced(params, inputs, LABELS.token_ids), atol=1e-4)
    assert sum(scored) == len(inputs)


def test_the_order_of_labels_changes_nothing(params, inputs):
    turned = Labels(LABELS.token_ids[::-1])
    found = log_likelihoods(MODEL, params, inputs, LABELS, 8)
    np.testing.assert_array_equal(log_likelihoods(MODEL, params, inputs, turned, 8), found[:, ::-1])


def test_neighbours_and_batch_size_change_nothing(params, inputs):
    found = log_likelihoods(MODEL, params, inputs, LABELS, 8)
    alone = np.concatenate([log_likelihoods(MODEL, params, [one], LABELS, 1) for one in inputs])
    np.testing.assert_allclose(alone, found, atol=1e-4)


def test_many_labels_are_scored_in_parts(params, inputs, monkeypatch):
    monkeypatch.setattr(labels_module, "MAX_TOKENS", 8)
    many = Labels(tuple((i, j, 1) for i in range(2, 4) for j in range(2, 4)))
    assert [len(part.token_ids) for part in many.split(8)] == [2, 2]
    found = log_likelihoods(MODEL, params, inputs[:2], many, 2)
    np.testing.assert_allclose(found, teacher_forced(params, inputs[:2], many.token_ids), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_output_layer_of_some_tokens_normalizes_over_those(params, inputs, dtype):
    output_ids = [1, 5, 7, 8, 9]
    found = log_likelihoods(MODEL, decode_parameters(CONFIG, params, dtype, output_ids), inputs, LABELS, 8)
    expected = teacher_forced(params, inputs, LABELS.token_ids, output_ids)
    np.testing.assert_allclose(found, expected, atol=1e-4 if dtype == "float32" else 0.3)
    with pytest.raises(UserError, match="a label holds tokens that the run was not trained to write"):
        log_likelihoods(MODEL, decode_parameters(CONFIG, params, dtype, [1, 5]), inputs, LABELS, 8)


def test_probabilities_over_the_labels():
    found = probabilities(np.log([[0.1, 0.3], [1e-300, 1e-300]]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5]])


def test_a_likelihood_that_is_not_finite_is_refused(params, inputs):
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    with pytest.raises(UserError, match="5 of 5 inputs have a likelihood that is not finite"):
        log_likelihoods(MODEL, broken, inputs, LABELS, 8)


def test_labels_that_cannot_be_scored_are_refused(tmp_path):
    vocabulary = Vocabulary(train_vocabulary(tmp_path / "poor.model", 80, without="?"))
    assert [ids[-1] for ids in encode_labels(["sea", "air"], vocabulary).token_ids] == [1, 1]
    for labels, words in (
        (["sea", " "], "label ' ' is empty"),
        (["sea", "sea"], "label 'sea' is given twice"),
        (["sea", "air", "sea."], "labels 'sea' and 'sea.' are equal after normalization; remove one"),
        (["sea", "why?"], "label 'why.' holds a token that the vocabulary cannot write"),
    ):
        with pytest.raises(UserError, match=words):
            encode_labels(labels, vocabulary)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_labels_after_a_prefix(params, inputs, batch_size):
    rng = np.random.default_rng(1)
    prefixes = [rng.integers(2, 40, n).tolist() for n in (4, 0, 20, 16, 9)]
    found = log_likelihoods(MODEL, params, inputs, LABELS, batch_size, prefixes=prefixes)
    expected = teacher_forced(params, inputs, LABELS.token_ids, prefixes=prefixes)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    without = log_likelihoods(MODEL, params, inputs, LABELS, batch_size)
    np.testing.assert_allclose(found[1], without[1], rtol=1e-5)  # whose prefix is empty


OWN = [  # labels of each input: their numbers differ, and some share a first token
    Labels(((5, 7, 1), (5, 1), (9, 5, 8, 1))),
    Labels(((5, 7, 1), (5, 7, 7, 1))),
    Labels(((3, 1), (4, 1), (6, 1), (7, 8, 1))),
    Labels(((5, 1), (5, 7, 1))),
    Labels(((9, 9, 1),)),
]


@pytest.mark.parametrize("batch_size", [2, 8])
def test_labels_of_each_input_equal_teacher_forcing(params, inputs, batch_size):
    found = own_log_likelihoods(MODEL, params, inputs, OWN, batch_size, (scored := []).append)
    for tokens, labels, own in zip(inputs, OWN, found, strict=True):
        [expected] = teacher_forced(params, [tokens], labels.token_ids)
        np.testing.assert_allclose(own, expected, atol=1e-4)
    assert sum(scored) == len(inputs)


def test_the_order_of_own_labels_changes_nothing(params, inputs):
    turned = [Labels(labels.token_ids[::-1]) for labels in OWN]
    found = own_log_likelihoods(MODEL, params, inputs, OWN, 4)
    for own, other in zip(found, own_log_likelihoods(MODEL, params, inputs, turned, 4), strict=True):
        np.testing.assert_array_equal(own, other[::-1])


def test_long_own_labels_are_scored_fewer_at_a_time(params, inputs, monkeypatch):
    monkeypatch.setattr(likelihood, "MAX_TOKENS", 4)
    found = own_log_likelihoods(MODEL, params, inputs, OWN, 5, (scored := []).append)
    assert scored == [1] * 5
    [expected] = teacher_forced(params, inputs[2:3], OWN[2].token_ids)
    np.testing.assert_allclose(found[2], expected, atol=1e-4)


def test_own_labels_of_an_output_layer_of_some_tokens(params, inputs):
    output_ids = [1, 3, 4, 5, 6, 7, 8, 9]
    found = own_log_likelihoods(MODEL, decode_parameters(CONFIG, params, "float32", output_ids), inputs, OWN, 8)
    for tokens, labels, own in zip(inputs, OWN, found, strict=True):
        [expected] = teacher_forced(params, [tokens], labels.token_ids, output_ids)
        np.testing.assert_allclose(own, expected, atol=1e-4)
