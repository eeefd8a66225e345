"""T5's span corruption over texts (Raffel et al. 2020, section 3.1.4): spans of words are left out, to be filled in.

Sentinels are the words `_0`, `_1` and on, which any vocabulary can write, in the place of tokens of their own.

    fill: answer mod 10: [MAX 2 _0 0 ] 9      _0 9 [MIN 4 7 ] _1
"""

import random

from explainft.data.synthetic.rows import VERSION, Row, question_row

NOISE_DENSITY = 0.15  # of the words
MEAN_SPAN = 3.0  # words


def corrupt(text: str) -> Row:
    """Returns the row of a text of at least two words; the same for the same text."""
    rng = random.Random(f"synthetic:{VERSION} spans {text}")
    words = text.split(" ")
    kept, noise = span_lengths(len(words), rng)
    inputs, targets, at = [], [], 0
    for i, (before, inside) in enumerate(zip(kept, noise, strict=True)):
        inputs += [*words[at : at + before], f"_{i}"]
        targets += [f"_{i}", *words[at + before : at + before + inside]]
        at += before + inside
    filled = " ".join([*targets, f"_{len(noise)}"])
    question = " ".join(inputs)
    return question_row(f"fill: {question}", filled, "text", "answer", question=question, answer=filled)


def span_lengths(n: int, rng: random.Random) -> tuple[list[int], list[int]]:
    """Returns the lengths of the kept and of the left-out spans of n words, which alternate and begin with a kept one.

    As T5's random_spans_noise_mask: about NOISE_DENSITY of the words in spans of MEAN_SPAN words on average.
    """
    num_noise = min(max(round(n * NOISE_DENSITY), 1), n - 1)
    num_spans = min(max(round(num_noise / MEAN_SPAN), 1), n - num_noise)
    return _partition(n - num_noise, num_spans, rng), _partition(num_noise, num_spans, rng)


def _partition(total: int, parts: int, rng: random.Random) -> list[int]:
    """Returns `parts` lengths of at least 1 that sum to `total`, all such lists equally likely."""
    places = list(range(1, total))
    for i in range(parts - 1):  # the first places of a Fisher-Yates shuffle
        j = i + int(rng.random() * (len(places) - i))
        places[i], places[j] = places[j], places[i]
    cuts = [0, *sorted(places[: parts - 1]), total]
    return [end - start for start, end in zip(cuts, cuts[1:], strict=False)]
