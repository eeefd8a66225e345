"""explainft.data.few_shot in plain TensorFlow ops, for any task with `inputs` and `targets` as text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from explainft.data import few_shot
from explainft.data.few_shot import Demonstration, Pool, Template


def demonstrate(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, Any],
    sequence_length: Mapping[str, int | None] | None,
    *,
    template: Template,
    shots: int,
    pool: Pool,
    seed: int | None,
    id_field: str = "inputs",
) -> tf.data.Dataset:
    """Makes prompts of inputs. `seed` is that of sampled demonstrations; None: the first `shots` of the pool.

    With fixed demonstrations an example that is one of them is left out. Where inputs have a sequence length, whole
    demonstrations are dropped until the prompt's tokens, EOS included, fit. A question that does not fit alone is never
    cut: where inputs would be trimmed, reading ends with an error. Adds the feature DEMONSTRATIONS. Comes before
    tokenization.
    """
    limit = (sequence_length or {}).get("inputs")
    trims = "targets" in (sequence_length or {})  # the built-in engine, which cuts nothing, gives no length of targets
    shown = tf.constant([_shown(template, one) for one in pool.demonstrations], tf.string)
    find_equal = _finder(pool.equal)
    vocabulary = output_features["inputs"].vocabulary
    vocabulary.load_model()

    def to_prompt(example):
        example = dict(example)
        own = find_equal(example["inputs"])
        if shots and seed is not None:
            places = choose_sampled(len(pool.demonstrations), shots, seed, example[id_field], own)
            demonstrations = tf.gather(shown, places)
        else:
            demonstrations = shown[:shots]
        prompts = make_prompts(template, demonstrations, shots, example["inputs"])
        example[few_shot.DEMONSTRATIONS] = fitting = fit(prompts, shots, vocabulary, limit)
        prompt = prompts[fitting]
        if limit is not None and trims:
            prompt = require_fit(prompt, vocabulary, limit)
        return {**example, "inputs": prompt}

    if shots and seed is None:
        dataset = dataset.filter(lambda example: not_among(find_equal(example["inputs"]), shots))
    return dataset.map(to_prompt, num_parallel_calls=tf.data.AUTOTUNE)


def not_among(own: tf.Tensor, shots: int) -> tf.Tensor:
    """Returns whether an example is none of the first `shots` demonstrations."""
    return (own < 0) | (own >= shots)


def make_prompts(template: Template, demonstrations: tf.Tensor, shots: int, question: tf.Tensor) -> tf.Tensor:
    """Returns the prompts with 0, 1, ... `shots` of the demonstrations."""
    asked = _fill(template.input, {"question": question})
    instruction = tf.constant([template.instruction] if template.instruction else [], tf.string)
    return tf.stack(
        [
            tf.strings.reduce_join(
                tf.concat([instruction, demonstrations[:k], [asked]], axis=0), separator=template.separator
            )
            for k in range(shots + 1)
        ]
    )


def fit(prompts: tf.Tensor, shots: int, vocabulary: Any, limit: int | None) -> tf.Tensor:
    """Returns how many of `shots` demonstrations fit, as few_shot.fit does."""
    if limit is None or not shots:
        return tf.constant(shots)
    lengths = vocabulary.encode_tf(prompts).row_lengths() + 1  # EOS
    places = tf.where(lengths[1:] <= limit)[:, 0]
    return tf.cast(tf.reduce_max(tf.concat([[-1], places], axis=0)) + 1, tf.int32)


def require_fit(prompt: tf.Tensor, vocabulary: Any, limit: int) -> tf.Tensor:
    """Returns the prompt; reading ends with an error where its tokens, EOS included, are more than `limit`."""
    length = tf.size(vocabulary.encode_tf(prompt)) + 1
    message = f"TASK_FEATURE_LENGTHS inputs={limit} would cut a question without demonstrations; give more"
    with tf.control_dependencies([tf.debugging.assert_less_equal(length, limit, message)]):
        return tf.identity(prompt)


def choose_sampled(pool: int, shots: int, seed: int, example_id: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Returns the same places as few_shot.choose_sampled."""
    values = tf.cast(tf.io.decode_raw(example_id, tf.uint8), tf.int64)
    powers = tf.math.cumprod(tf.fill(tf.shape(values), tf.constant(few_shot.PRIME, tf.int64)), exclusive=True)
    text = tf.bitcast(tf.reduce_sum(values * powers), tf.uint64)  # int64 wraps around
    start = mix(text + _unsigned(seed * few_shot.GOLDEN))
    numbers = _random_integers(start, 2 * (shots + 1))
    chosen: list[tf.Tensor] = []
    for draw, top in enumerate(range(pool - shots - 1, pool)):
        place = tf.math.floormod(numbers[draw], top + 1)
        is_chosen = tf.reduce_any(tf.stack([place == other for other in chosen])) if chosen else tf.constant(False)
        chosen.append(tf.where(is_chosen, tf.constant(top, tf.int64), place))
    in_order = tf.gather(tf.stack(chosen), tf.argsort(numbers[shots + 1 :], stable=True))
    return tf.boolean_mask(in_order, in_order != own)[:shots]


def mix(numbers: tf.Tensor) -> tf.Tensor:
    """Returns few_shot.mix of uint64."""
    numbers = numbers + _unsigned(few_shot.GOLDEN)
    for shift, multiplier in zip((30, 27), few_shot.MULTIPLIERS, strict=True):
        numbers = tf.bitwise.bitwise_xor(numbers, _shift(numbers, shift)) * _unsigned(multiplier)
    return tf.bitwise.bitwise_xor(numbers, _shift(numbers, 31))


def _random_integers(start: tf.Tensor, count: int) -> tf.Tensor:
    draws = tf.constant(list(range(count)), tf.uint64)
    return tf.cast(_shift(mix(start + draws), 33), tf.int64)


def _shift(numbers: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(numbers, tf.constant(bits, tf.uint64))


def _unsigned(number: int) -> tf.Tensor:
    return tf.constant(number % 2**64, tf.uint64)


def _shown(template: Template, one: Demonstration) -> str:
    """Returns a demonstration as a prompt shows it."""
    asked = few_shot.fill(template.input, {"question": one.input})
    return few_shot.fill(template.demonstration, {"input": asked, "target": one.target})


def _fill(text: str, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    parts: Sequence[Any] = few_shot.split_placeholders(text)
    return tf.strings.join([values.get(part[1:-1], part) if part[:1] == "{" else part for part in parts])


def _finder(equal: Mapping[str, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of an input: the place of the demonstration that equals it, or -1."""
    if not equal:  # which a table cannot hold
        return lambda _: tf.constant(-1, tf.int64)
    keys, values = tf.constant(list(equal), tf.string), tf.constant(list(equal.values()), tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=-1).lookup
