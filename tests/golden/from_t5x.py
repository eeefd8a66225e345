"""Numbers of T5X's model, loss and Adafactor for given weights. Needs a T5X checkout on PYTHONPATH."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import seqio
from t5x import adafactor, losses, models, train_state
from t5x.examples.t5 import layers, network

from explainft.model.config import T5Config
from explainft.model.loss import Loss
from tests.golden.cases import Flat, flatten


def model(config: T5Config, loss: Loss | None = None) -> models.EncoderDecoderModel:
    """T5X's model class around its network, and its Adafactor as in T5X's own recipes."""
    loss = loss or Loss()
    vocabulary = seqio.PassThroughVocabulary(config.vocab_size, eos_id=1)
    known = {field.name for field in dataclasses.fields(network.T5Config)}
    return models.EncoderDecoderModel(
        network.Transformer(network.T5Config(**{k: v for k, v in dataclasses.asdict(config).items() if k in known})),
        vocabulary,
        vocabulary,
        optimizer_def=adafactor.Adafactor(
            decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules()
        ),
        z_loss=loss.z_loss,
        label_smoothing=loss.label_smoothing,
        loss_normalizing_factor=loss.normalizing_factor,
    )


def initial_variables(config: T5Config):
    """What T5X makes for this config: shapes of `params`, and the logical axes beside them."""
    shapes = {f"{stack}_tokens": (1, 1) for stack in ("encoder_input", "decoder_input", "decoder_target")}
    types = {name: jnp.int32 for name in shapes}
    return model(config).get_initial_variables(jax.random.key(0), shapes, types)


def loss_and_gradients(config: T5Config, params, batch, loss: Loss) -> tuple[np.ndarray, float, Flat]:
    """Logits [B, T, V], the loss and its gradients, as T5X's trainer computes them."""
    theirs = model(config, loss)
    batch = _weighted(batch)
    logits = jax.jit(theirs._compute_logits)(params, batch)
    (value, _), gradients = jax.jit(jax.value_and_grad(theirs.loss_fn, has_aux=True), static_argnums=2)(
        params, batch, None
    )
    return np.asarray(logits), float(value), flatten(gradients)


def loss_of_logits(logits_BTV: np.ndarray, batch, loss: Loss) -> tuple[float, np.ndarray]:
    """The loss of a padded batch for these logits, and its gradient by them."""
    batch = _weighted(batch)

    def objective(logits_BTV):
        factor, weights = losses.get_loss_normalizing_factor_and_weights(loss.normalizing_factor, batch)
        smoothing, targets = loss.label_smoothing, batch["decoder_target_tokens"]
        value, _, _ = losses.compute_weighted_cross_entropy(
            logits_BTV, targets, weights, smoothing, loss.z_loss, factor
        )
        return value

    value, gradient = jax.jit(jax.value_and_grad(objective))(logits_BTV)
    return float(value), np.asarray(gradient)


def _weighted(batch):
    """The batch as seqio's feature converters give it to T5X: they put the weights of the targets into it."""
    return {**batch, "decoder_loss_weights": (batch["decoder_target_tokens"] > 0).astype(np.int32)}


class Adafactor:
    """T5X's train state over our weights, with the factoring that its model derives from the names of the axes."""

    def __init__(self, config: T5Config, params, learning_rate: float, step_offset: int = 0):
        optimizer = model(config).optimizer_def
        optimizer.hyper_params = optimizer.hyper_params.replace(step_offset=step_offset)
        variables = {"params": params, "params_axes": initial_variables(config)["params_axes"]}
        self.learning_rate, self.state = learning_rate, train_state.FlaxOptimTrainState.create(optimizer, variables)

    def go_to(self, step: int) -> None:
        self.state = self.state.replace_step(step)

    def update(self, gradients) -> tuple[Flat, dict[str, Flat]]:
        """Parameters by path after the update, and their slots by name: v, v_row, v_col, [1] where there is none."""
        self.state = self.state.apply_gradient(gradients, learning_rate=self.learning_rate)
        slots = flatten(self.state.param_states)
        by_name = {
            name: {path.removesuffix(f"/{name}"): x for path, x in slots.items() if path.endswith(f"/{name}")}
            for name in ("v", "v_row", "v_col")
        }
        return flatten(self.state.params), by_name


def relative_position_buckets(distances: np.ndarray, bidirectional: bool) -> np.ndarray:
    bucket = layers.RelativePositionBiases._relative_position_bucket
    return np.asarray(bucket(distances, bidirectional=bidirectional))
