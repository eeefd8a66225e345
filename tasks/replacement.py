"""explainft.data.replacement in plain TensorFlow ops, with the same bytes for any text."""

import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from explainft.data import replacement
from explainft.data.replacement import LAST_CODE_POINT, MARK, NUMBER, REST, SPACE_CODE, SURROGATES


def replace(text: Any) -> Any:
    """Returns a tensor of strings of any shape, ragged ones too, after `replacement.replace`."""
    if isinstance(text, tf.RaggedTensor):
        return text.with_flat_values(replace(text.flat_values))
    text = _substitute(text, replacement.replacements())
    for pattern, new in (("^ ", SPACE_CODE), (f"{MARK} $", MARK), (" $", SPACE_CODE)):
        text = tf.strings.regex_replace(text, pattern, new)
    return _where_any(f"(?s).*{REST}.*", text, _write_numbers)


def restore(text: Any) -> Any:
    """Returns a tensor of strings of any shape after `replacement.restore`."""
    if isinstance(text, tf.RaggedTensor):
        return text.with_flat_values(restore(text.flat_values))
    text = tf.strings.regex_replace(text, f"{MARK}$", f"{MARK} ")
    text = _where_any(f"(?s).*{NUMBER}.*", text, _read_numbers)
    return _substitute(text, replacement.restorations())


def _substitute(text: Any, rules: list[tuple[str, str]]) -> Any:
    for old, new in rules:
        text = tf.strings.regex_replace(text, re.escape(old), new.replace("\\", r"\\"))
    return text


def _where_any(pattern: str, text: Any, function: Callable[[Any], Any]) -> Any:
    """Returns the text after a function of a vector, which costs much, where an element matches the whole pattern."""
    text = tf.convert_to_tensor(text)
    changed = tf.cond(
        tf.reduce_any(tf.strings.regex_full_match(text, pattern)),
        lambda: tf.reshape(function(tf.reshape(text, [-1])), tf.shape(text)),
        lambda: text,
    )
    return tf.ensure_shape(changed, text.shape)


def _write_numbers(texts: Any) -> Any:
    characters = tf.strings.unicode_split(texts, "UTF-8")
    numbers = tf.strings.as_string(tf.strings.unicode_decode(texts, "UTF-8").flat_values)
    is_rest = tf.strings.regex_full_match(characters.flat_values, REST)
    written = tf.where(is_rest, tf.strings.join([MARK, numbers, ";"]), characters.flat_values)
    return tf.strings.reduce_join(characters.with_flat_values(written), axis=-1)


def _read_numbers(texts: Any) -> Any:
    parts = tf.strings.split(texts, MARK)
    part, rows = parts.flat_values, parts.value_rowids()
    after_mark = tf.concat([[False], rows[1:] == rows[:-1]], axis=0)  # all but the first of each text
    digits = f"^{NUMBER.removeprefix(MARK)}"
    is_number = after_mark & tf.strings.regex_full_match(part, f"(?s){digits}.*")
    number = tf.strings.regex_replace(tf.where(is_number, part, "0;"), f"(?s){digits}.*", r"\1")
    number = tf.strings.to_number(number, tf.int32)
    first, last = SURROGATES
    is_number &= (number <= LAST_CODE_POINT) & ~((first <= number) & (number <= last))
    character = tf.strings.unicode_encode(tf.where(is_number, number, 0)[:, None], "UTF-8")
    read = tf.strings.join([character, tf.strings.regex_replace(part, digits, "")])
    unread = tf.where(after_mark, tf.strings.join([MARK, part]), part)
    return tf.strings.reduce_join(parts.with_flat_values(tf.where(is_number, read, unread)), axis=-1)
