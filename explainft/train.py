"""Training: one function, from top to bottom. `state.step` counts the updates applied."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

from explainft import convert, evaluate, sharding, token_cache
from explainft.checkpoint import CheckpointConfig, Checkpoints, describe
from explainft.data import Batches
from explainft.errors import UserError, require_at_least_zero, require_name, require_positive
from explainft.evaluate import EvaluationConfig
from explainft.loss import Loss
from explainft.run_folder import Progress, RunFolder, Stopwatch
from explainft.t5 import T5, T5Config, forward
from explainft.token_cache import TokenCache
from explainft.weights import Weights, has_adafactor, parameters_like, slots_like


@flax.struct.dataclass
class TrainState:
    step: jax.Array
    params: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """The training examples: T5X's names. `seed` orders them; `task_feature_lengths` are the row lengths of a batch."""

    mixture_or_task_name: str
    task_feature_lengths: dict[str, int]
    batch_size: int
    module: str = "tasks"
    seed: int = 0
    pack: bool = True

    def __post_init__(self):
        require_name(MIXTURE_OR_TASK_NAME=self.mixture_or_task_name, MIXTURE_OR_TASK_MODULE=self.module)
        require_positive(BATCH_SIZE=self.batch_size)
        require_at_least_zero(RANDOM_SEED=self.seed)

    def batches(self, cache: TokenCache) -> Batches:
        return Batches(cache, self.task_feature_lengths, self.batch_size, self.seed, packed=self.pack)


def init_state(config: T5Config, tx: optax.GradientTransformation, seed: int) -> TrainState:
    """Fresh parameters from the seed, fresh optimizer slots, step 0."""
    tokens = jnp.ones((1, 1), jnp.int32)
    params = T5(config).init(jax.random.key(seed), tokens, tokens, tokens)["params"]
    return TrainState(jnp.int32(0), params, tx.init(params))


def abstract_state(config: T5Config, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> TrainState:
    """Shapes, types and places of a state, for restoring one without computing another first."""
    shapes = jax.eval_shape(functools.partial(init_state, config, tx, 0))
    places = sharding.places(shapes, shapes.params, mesh)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)


def starting_point(
    keeper: Checkpoints, initial_checkpoint: str | None, initial_step: int | None, relative: bool
) -> tuple[Weights | None, Progress]:
    """The checkpoint that a new run starts from, and how far a run has come.

    Raises UserError where neither checkpoint nor setting tells the step at which an absolute TRAIN_STEPS begins.
    """
    if keeper.latest is not None:
        return None, Progress(**keeper.progress(keeper.latest))
    if initial_checkpoint is None:
        return None, Progress()
    weights = convert.open_weights(initial_checkpoint)
    step = initial_step if weights.step is None else weights.step
    if step is None and not relative:
        raise UserError(
            f"{weights.origin} does not tell its step, and TRAIN_STEPS counts from pre-training on; "
            "give --gin.INITIAL_STEP=1000000, or what it is, or the updates alone as --gin.TRAIN_STEPS_RELATIVE=N"
        )
    return weights, Progress(first_step=step or 0)


def last_step(progress: Progress, train_steps: int, relative: int | None) -> int:
    """Where training ends. Raises UserError for a TRAIN_STEPS that the initial checkpoint has behind it."""
    first = progress.first_step
    if relative is not None:
        require_positive(TRAIN_STEPS_RELATIVE=relative)
        return first + relative
    if first >= train_steps:
        raise UserError(
            f"TRAIN_STEPS={train_steps} includes the {first} steps that the initial checkpoint has behind it; "
            f"give --gin.TRAIN_STEPS={first + train_steps} or --gin.TRAIN_STEPS_RELATIVE={train_steps}"
        )
    return train_steps


def restore_or_init(
    keeper: Checkpoints,
    weights: Weights | None,
    step: int,
    model: T5Config,
    tx: optax.GradientTransformation,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> TrainState:
    """The newest checkpoint of the run, else the initial one's parameters, else fresh ones."""
    like = abstract_state(model, tx, mesh)
    if keeper.latest is not None:
        params, opt_state = keeper.restore(keeper.latest, like.params, like.opt_state)
        return TrainState(jax.device_put(jnp.int32(keeper.latest), like.step.sharding), params, opt_state)
    if weights is not None:
        return state_from(weights, like, tx, step)
    return jax.device_put(init_state(model, tx, seed), jax.tree.map(lambda x: x.sharding, like))


def state_from(weights: Weights, like: TrainState, tx: optax.GradientTransformation, step: int) -> TrainState:
    """The parameters of a checkpoint at a step, with its Adafactor slots where it has them, else with fresh ones.

    Says on standard error what was restored. Raises UserError where the parameters are another network's.
    """
    params = parameters_like(weights, like.params)
    places = jax.tree.map(lambda x: x.sharding, like.opt_state)
    opt_state = slots_like(weights, jax.jit(tx.init, out_shardings=places)(params), step)
    n = sum(x.size for x in jax.tree.leaves(params))
    restored = has_adafactor(like.opt_state) and weights.read_slot is not None
    slots = "its optimizer slots" if restored else "fresh optimizer slots"
    print(f"starting at step {step:,} from {weights.origin}: {n:,} parameters, {slots}", file=sys.stderr)
    return TrainState(jax.device_put(jnp.int32(step), like.step.sharding), params, opt_state)


def make_step(
    config: T5Config, tx: optax.GradientTransformation, loss: Loss, seed: int, microbatches: int = 1
) -> Callable:
    """A jitted update (state, batch) -> (state, sums). The old state's memory is reused: do not read it afterwards."""
    model = T5(config)

    def loss_sum(params, batch, rng):
        logits_BTV = forward(model, params, batch, dropout_rng=rng)
        sums = loss.sums(logits_BTV, batch["decoder_target_tokens"])
        return sums["loss_sum"], sums

    def gradients(params, batch, rng):
        if microbatches == 1:
            return jax.grad(loss_sum, has_aux=True)(params, batch, rng)
        # Rows i, i + n, ... form microbatch i: each device keeps its own rows when the batch is split over devices.
        parts = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(total, part_and_rng):
            part, rng = part_and_rng
            return jax.tree.map(jnp.add, total, jax.grad(loss_sum, has_aux=True)(params, part, rng)), None

        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(jax.grad(loss_sum, has_aux=True), params, jax.tree.map(lambda x: x[0], parts), rng),
        )
        return jax.lax.scan(add, zeros, (parts, jax.random.split(rng, microbatches)))[0]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, sums = gradients(state.params, batch, rng)
        denominator = loss.denominator(batch["decoder_target_tokens"])
        grads = jax.tree.map(lambda g: g / denominator, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        segments_B = jnp.max(batch["decoder_segment_ids"], axis=1)
        tokens = jnp.sum(batch["encoder_segment_ids"] > 0) + sums["weight_sum"]
        sums = {**sums, "examples": jnp.sum(segments_B), "tokens": tokens}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), sums

    return step


def train(
    model_dir: str,
    model: T5Config,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
    schedule: Callable[..., Callable[[jax.typing.ArrayLike], jax.Array]],
    dataset: DatasetConfig,
    evaluation: EvaluationConfig,
    checkpoints: CheckpointConfig,
    loss: Loss,
    train_steps: int,
    microbatches: int = 1,
    random_seed: int = 0,
    log_period: int = 100,
    initial_checkpoint_path: str | None = None,
    initial_step: int | None = None,
    train_steps_relative: int | None = None,
    model_parallelism: int = 1,
    use_cached_tasks: bool = False,
    config_text: Callable[[], str] = str,
    tfds_data_dir: str | None = None,
    seqio_additional_cache_dirs: Sequence[str] = (),
) -> None:
    """Trains to `train_steps` updates, or goes on from the newest checkpoint in `model_dir`.

    A new run starts from `initial_checkpoint_path` (any format that convert.open_weights reads; None: from scratch) and
    counts on from its step, or from `initial_step` where the format does not tell. So `train_steps` includes
    pre-training, as in T5X; `train_steps_relative` counts from the start of this run instead.

    Writes config.gin, metrics.jsonl, TensorBoard events, checkpoints/ and inference_eval/ there. An evaluation comes
    before the save of the same step, which keeps its outcome. Raises UserError for what the user can mend.
    """
    # ---- what is trained on what
    if not isinstance(model_dir, str) or not model_dir:
        raise UserError(f"MODEL_DIR={model_dir!r} is no folder's name; give --gin.MODEL_DIR=FOLDER")
    require_positive(TRAIN_STEPS=train_steps, MICROBATCHES=microbatches, LOG_PERIOD=log_period)
    require_at_least_zero(INITIAL_STEP=initial_step or 0)
    mesh = sharding.make_mesh(model_parallelism)
    sharding.check_model(model, mesh)
    sharding.check_batch(dataset.batch_size, mesh, microbatches)
    load = functools.partial(
        token_cache.load,
        task_module=dataset.module,
        data_dir=tfds_data_dir,
        use_cached=use_cached_tasks,
        seqio_additional_cache_dirs=seqio_additional_cache_dirs,
    )
    cache = load(dataset.mixture_or_task_name, "train")
    evaluate.check_vocabulary(model, cache)
    batches = dataset.batches(cache)
    validation = dataset.batches(load(dataset.mixture_or_task_name, "validation"))
    eval_tasks = token_cache.task_names(evaluation.mixture_or_task_name, dataset.module)
    eval_caches = [load(task, evaluation.split) for task in eval_tasks]
    evaluate.check_metric(eval_caches, evaluation.metric)

    # ---- from where
    path = Path(model_dir)
    with contextlib.ExitStack() as stack:
        description = {**describe(model, cache), "data": dataclasses.asdict(dataset)}
        keeper = stack.enter_context(Checkpoints(path, checkpoints, description))
        weights, progress = starting_point(
            keeper, initial_checkpoint_path, initial_step, train_steps_relative is not None
        )
        if weights is not None:
            evaluate.check_vocabulary(model, cache, weights)
        train_steps = last_step(progress, train_steps, train_steps_relative)
        rate = schedule(train_steps=train_steps)
        tx = optimizer(rate)
        state = restore_or_init(keeper, weights, progress.first_step, model, tx, random_seed, mesh)
        update = make_step(model, tx, loss, random_seed, microbatches)

        first = int(state.step)
        watch = Stopwatch()
        last = first if out_of_patience(evaluation, progress) else train_steps
        if first >= last:
            print(f"{path} is complete at step {first:,}: nothing to train", file=sys.stderr)
            return
        run = stack.enter_context(RunFolder(path, config_text(), cache.vocabulary.path))
        run.forget_after(first)

        # ---- training
        bar = stack.enter_context(tqdm(total=train_steps, initial=first, desc=path.name, unit=" steps", disable=None))
        recent: list[dict[str, jax.Array]] = []
        watch.lap()
        for step in range(first, last):
            state, sums = update(state, sharding.put_batch(batches[step - progress.first_step], mesh))
            recent.append(sums)
            done = step + 1
            at_end = done == train_steps
            bar.update()

            evaluate_now = done % evaluation.period == 0 or at_end
            save_now = done % checkpoints.period == 0 or at_end
            # Before an evaluation or a save too: what is counted here must not be lost between two saves.
            if done % log_period == 0 or evaluate_now or save_now:
                row = summarise(recent, watch.lap(), dataset, progress)
                run.log({"step": done, **row, "learning_rate": float(rate(step))})
                bar.set_postfix_str(f"loss {row['loss']:.3f}, {row['examples_per_second']:,.0f} examples/s")
                recent = []

            watch.pause()
            if evaluate_now:
                scores = evaluate.teacher_forced(model, loss, state.params, validation, mesh, evaluation.eval_steps)
                run.log({"step": done, **{f"eval/{name}": value for name, value in scores.items()}})
                score = evaluate.decode_all(model, state.params, eval_caches, evaluation, done, run)
                progress.evaluated(done, score)
                bar.set_description_str(f"{path.name}, {evaluation.metric} {score:.3f}")
            stop = out_of_patience(evaluation, progress)
            new_best = checkpoints.keep_best and progress.best_step == done
            if save_now or stop or new_best:
                keeper.save(done, state.params, state.opt_state, dataclasses.asdict(progress))
                keeper.prune(progress.best_step)
            watch.resume()
            if stop:
                bar.write(
                    f"{evaluation.metric} has not risen in {evaluation.patience} evaluations: stopped", file=sys.stderr
                )
                break


def out_of_patience(evaluation: EvaluationConfig, progress: Progress) -> bool:
    return evaluation.patience is not None and progress.evaluations_without_gain >= evaluation.patience


def summarise(
    sums: list[dict[str, jax.Array]], seconds: float, dataset: DatasetConfig, progress: Progress
) -> dict[str, float]:
    """A row of metrics.jsonl from the sums of some updates; adds them to the progress."""
    total = {name: float(sum(float(s[name]) for s in sums)) for name in sums[0]}
    progress.seconds += seconds
    progress.examples += int(total["examples"])
    places = len(sums) * dataset.batch_size * sum(dataset.task_feature_lengths.values())
    return {
        "loss": total["loss_sum"] / total["weight_sum"],
        "accuracy": total["correct_sum"] / total["weight_sum"],
        "examples": progress.examples,
        "seconds": progress.seconds,
        "examples_per_second": total["examples"] / seconds,
        "target_tokens_per_second": total["weight_sum"] / seconds,
        "padding_share": 1.0 - total["tokens"] / places,
    }
