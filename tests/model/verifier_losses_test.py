"""The losses of the score: definitions, gradients, and that no step splits a pair."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from explainft.core.errors import UserError
from explainft.data.batches import Batches, PairBatches, check_labels
from explainft.data.target_parts import ANSWER, CONTEXT
from explainft.model.config import T5Config
from explainft.model.labels import Labels
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.model.verifier_losses import BinaryLoss, MarginLoss, verifier_loss
from explainft.training import optimizers
from explainft.training.train_state import init_state
from explainft.training.train_step import make_train_step
from tests.data.batches_test import write_cache
from tests.helpers.training import assert_close
from tests.model.labels_test import teacher_forced

# A smooth activation: finite differences across the kinks of relu differ.
CONFIG = T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, head_dim=8, mlp_dim=16,
    mlp_activations=("gelu",),
)  # fmt: skip
LABELS = ((5, 7, 1), (9, 1))
LENGTHS = {"inputs": 12, "targets": 4}


def write_pairs(directory, n=24, targets=None):
    rng = np.random.default_rng(0)
    inputs = [np.append(rng.integers(3, 40, rng.integers(2, 11)), 1) for _ in range(n)]
    return write_cache(directory, inputs, targets or [np.array(LABELS[i % 2]) for i in range(n)])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def params():
    tokens = jnp.ones((1, 1), jnp.int32)
    return T5(CONFIG).init(jax.random.key(0), tokens, tokens, tokens)["params"]


PREFIXED = {"inputs": 12, "targets": 10}


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory):
    """Solutions before the labels, each input and solution twice: once with each label."""
    rng = np.random.default_rng(1)
    inputs = [np.append(rng.integers(3, 40, rng.integers(2, 11)), 1) for _ in range(12) for _ in LABELS]
    solutions = [rng.integers(3, 40, rng.integers(1, 6)) for _ in range(12)]
    targets = [np.append(solution, label) for solution in solutions for label in LABELS]
    parts = [np.repeat([CONTEXT, ANSWER], [len(s), len(label)]) for s in solutions for label in LABELS]
    return write_cache(tmp_path_factory.mktemp("prefixed"), inputs, targets, target_parts=parts)


def likelihoods(params, batch):
    """The likelihood of both labels of each row [B, 2], one at a time."""
    inputs = [row[row > 0] for row in batch["encoder_input_tokens"].reshape(-1, 12)]
    weights = batch.get("decoder_loss_weights")
    prefixes = None
    if weights is not None:
        targets = batch["decoder_target_tokens"].reshape(-1, 10)
        prefixes = [t[(t > 0) & (w == 0)].tolist() for t, w in zip(targets, weights.reshape(-1, 10), strict=True)]
    return np.exp(teacher_forced(params, inputs, LABELS, config=CONFIG, prefixes=prefixes))


def batch_of(cache, size=12):
    return PairBatches(cache, LENGTHS, size, 0, labels=LABELS)[0]


def loss_of(margin):
    return MarginLoss(Labels(LABELS), margin=margin)


def test_its_definition(cache, params):
    batch = batch_of(cache)
    likelihood = likelihoods(params, batch)
    log_score = np.log(likelihood[:, 0] / likelihood.sum(axis=1)).reshape(-1, 2)
    expected = np.maximum(0, log_score[:, 1] - log_score[:, 0] + 0.1)
    assert 0 < np.sum(expected > 0) < len(expected)  # some pairs are apart by the margin
    sums = loss_of(0.1).batch_sums(T5(CONFIG), params, batch)
    assert float(sums["loss_sum"]) == pytest.approx(expected.sum(), rel=1e-4)
    assert float(sums["correct_sum"]) == np.sum(log_score[:, 0] > log_score[:, 1])
    assert float(sums["weight_sum"]) == 6 == float(loss_of(0.1).denominator(batch))


def test_the_margin_loss_after_prefixes(prefixed, params):
    batch = PairBatches(prefixed, PREFIXED, 12, 0, labels=LABELS)[0]
    likelihood = likelihoods(params, batch)
    log_score = np.log(likelihood[:, 0] / likelihood.sum(axis=1)).reshape(-1, 2)
    expected = np.maximum(0, log_score[:, 1] - log_score[:, 0] + 0.1).sum()
    assert float(loss_of(0.1).batch_sums(T5(CONFIG), params, batch)["loss_sum"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("after_prefixes", [True, False])
def test_the_binary_loss_is_the_cross_entropy_of_the_score(cache, prefixed, params, after_prefixes):
    batches = Batches(*((prefixed, PREFIXED) if after_prefixes else (cache, LENGTHS)), 10, 0, packed=False)
    loss = BinaryLoss(Labels(LABELS))
    for batch in (batches[0], batches.ordered(2)):  # the last one has four solutions and six empty rows
        n = np.count_nonzero(batch["decoder_target_tokens"][:, 0])
        likelihood = likelihoods(params, {name: rows[:n] for name, rows in batch.items()})
        score = likelihood[:, 0] / likelihood.sum(axis=1)
        labels = [row[row > 0][-3:].tolist() == list(LABELS[0]) for row in batch["decoder_target_tokens"][:n]]
        expected = -np.log(np.where(labels, score, 1 - score))
        sums = loss.batch_sums(T5(CONFIG), params, batch)
        assert 0 < sum(labels) < n
        assert float(sums["loss_sum"]) == pytest.approx(expected.sum(), rel=1e-4)
        assert float(sums["correct_sum"]) == np.sum((score > 0.5) == labels)
        assert float(sums["weight_sum"]) == n == float(loss.denominator(batch))


def test_a_label_that_ends_like_the_other_is_told_apart(tmp_path, params):
    labels = ((7, 1), (5, 7, 1))  # as correct and incorrect, spelled in letters
    targets = [np.array([9, *labels[i % 2]]) for i in range(4)]
    parts = [np.repeat([CONTEXT, ANSWER], [1, len(target) - 1]) for target in targets]
    cache = write_cache(tmp_path, [np.array([8, 1])] * 4, targets, target_parts=parts)
    assert check_labels(cache, labels).tolist() == [0, 1, 0, 1]
    batch = Batches(cache, PREFIXED, 4, 0, packed=False).ordered(0)
    assert BinaryLoss(Labels(labels))._is_correct(batch).tolist() == [True, False, True, False]
    with pytest.raises(UserError, match="must have the labels correct and incorrect alone"):
        check_labels(cache, LABELS)


def test_its_gradient_is_that_of_finite_differences(cache, params):
    batch, loss = batch_of(cache), loss_of(5.0)  # every pair is within the margin

    vector, tree = ravel_pytree(params)

    @jax.jit
    def loss_sum(vector):
        return loss.batch_sums(T5(CONFIG), tree(vector), batch)["loss_sum"]

    gradient = np.asarray(jax.jit(jax.grad(loss_sum))(vector))
    ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(params)])
    for start, end in zip([0, *ends], ends, strict=False):  # each parameter in the direction of its own gradient
        direction = np.zeros_like(gradient)
        direction[start:end] = gradient[start:end] / (norm := np.linalg.norm(gradient[start:end]))
        difference = loss_sum(vector + 3e-3 * direction) - loss_sum(vector - 3e-3 * direction)
        assert float(difference) / 6e-3 == pytest.approx(norm, rel=0.01)  # of float32 sums


def test_microbatches_change_neither_sums_nor_gradients(cache):
    tx = optimizers.adamw(lambda _: 0.1, clip_norm=None)
    found = []
    for microbatches in (1, 3):
        step = make_train_step(T5(CONFIG), tx, loss_of(0.5), 0, microbatches)
        found.append(step(init_state(CONFIG, tx, 0), batch_of(cache)))
    (whole, whole_sums), (split, split_sums) = found
    for name, value in whole_sums.items():
        assert float(split_sums[name]) == pytest.approx(float(value), rel=1e-5)
    assert float(whole_sums["examples"]) == 12 and float(whole_sums["weight_sum"]) == 6
    assert_close(whole.params, split.params)


def test_an_output_layer_of_some_tokens(cache, params):
    ids = (1, 5, 7, 9)
    limited = dataclasses.replace(loss_of(0.5), output_ids=(0, *ids))
    assert float(limited.batch_sums(T5(CONFIG), params, batch_of(cache))["loss_sum"]) > 0


def test_batches_hold_every_pair_once_an_epoch_and_a_host_its_own(cache):
    batches = PairBatches(cache, LENGTHS, 8, 3, labels=LABELS)
    singles = Batches(cache, LENGTHS, 1, 0, packed=False)
    known = [singles.ordered(i)["encoder_input_tokens"][0].tolist() for i in range(24)]
    for epoch in (0, 1):
        pairs = [pair for step in range(3) for pair in batches[3 * epoch + step]["encoder_input_tokens"]]
        numbers = [tuple(known.index(row.tolist()) for row in pair) for pair in pairs]
        assert sorted(numbers) == [(i, i + 1) for i in range(0, 24, 2)]
        assert numbers != sorted(numbers)
    host = PairBatches(cache, LENGTHS, 8, 3, labels=LABELS, rows=np.array([2, 3]))
    for name, feature in host[1].items():
        np.testing.assert_array_equal(feature, batches[1][name][2:])
    last = PairBatches(cache, LENGTHS, 10, 3, labels=LABELS).ordered(2)
    assert [bool(pair.any()) for pair in last["encoder_input_tokens"]] == [True, True, False, False, False]


def test_a_last_batch_with_empty_rows_counts_its_pairs_alone(cache, params):
    last = PairBatches(cache, LENGTHS, 10, 3, labels=LABELS).ordered(2)
    assert float(loss_of(0.5).batch_sums(T5(CONFIG), params, last)["weight_sum"]) == 2


@pytest.mark.parametrize("targets", [[LABELS[1], LABELS[0]], [LABELS[0], LABELS[0]], [LABELS[0], (8, 1)]])
def test_examples_that_are_not_pairs_are_refused(tmp_path, targets):
    cache = write_pairs(tmp_path, 4, [np.array(targets[i % 2]) for i in range(4)])
    with pytest.raises(UserError, match="must (hold pairs of a correct and an incorrect solution|have the labels)"):
        PairBatches(cache, LENGTHS, 4, 0, labels=LABELS)


def test_verifier_loss_names_a_loss():
    assert verifier_loss("margin", 0.2, Loss()) == MarginLoss(margin=0.2)
    assert verifier_loss("binary", 0.2, Loss()) == BinaryLoss()
    assert verifier_loss("cross_entropy", 0.2, Loss()) == Loss()
    with pytest.raises(
        UserError, match="VERIFIER_LOSS='margn' must be 'cross_entropy', 'binary' or 'margin'; did you mean"
    ):
        verifier_loss("margn", 0.2, Loss())
    with pytest.raises(UserError, match="MARGIN=-1 must be a number of at least 0"):
        MarginLoss(margin=-1)
