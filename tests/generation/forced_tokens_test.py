"""Decoding with forced tokens, against a search that has neither a cache nor a loop in JAX."""

import numpy as np

from explainft.data.compact_vocabulary import COMPACT
from explainft.data.multitask import Context
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.generation import decoding, forced_tokens
from explainft.generation.forced_tokens import ForcedTokens
from explainft.model.t5 import T5
from tests.generation.decoding_test import LENGTH, full_forward, sharpened
from tests.model.t5_test import SMALL

INPUTS = [[*np.random.default_rng(0).integers(2, 40, n), EOS_ID] for n in (3, 9, 1, 30, 5, 17)]


def brute_force(params, inputs, forced):
    padded = np.zeros((1, 32), int)
    padded[0, : len(inputs)] = inputs
    tokens, pending = [], list(forced.start)
    seen_end = False
    while len(tokens) < LENGTH:
        decoder_inputs = np.zeros((1, LENGTH + 1), int)
        decoder_inputs[0, 1 : len(tokens) + 1] = tokens
        free = int(np.argmax(full_forward(params, padded, decoder_inputs)[0, len(tokens)]))
        was_forced = bool(pending)
        token = pending.pop(0) if pending else free
        if token == EOS_ID:
            return tokens
        tokens.append(token)
        if not was_forced and not seen_end and tuple(tokens[-len(forced.end) :]) == forced.end:
            seen_end, pending = True, list(forced.following)
    return tokens


def test_forced_equals_brute_force():
    found = set()
    for seed in range(4):
        params = sharpened(seed)
        free = decoding.generate(T5(SMALL), params, INPUTS, LENGTH, batch_size=4)
        # The end is what some row writes freely after the start.
        end = next(tuple(row[1:2]) for row in free if len(row) > 2)
        for forced in (ForcedTokens((), end, (7, 9)), ForcedTokens((5, 6), end, (8,))):
            expected = [brute_force(params, row, forced) for row in INPUTS]
            assert forced_tokens.generate(T5(SMALL), params, INPUTS, LENGTH, 4, forced) == expected
            found |= {(len(forced.start), end[0] in row) for row in expected}
    assert {(0, True), (2, True), (2, False)} <= found


def test_forced_words_stand_in_the_text():
    vocabulary = Vocabulary(COMPACT)
    forced = forced_tokens.encode_context(Context("The answer is", ".", " Explanation:"), vocabulary)
    whole = vocabulary.encode("The answer is 4. Explanation: Max, 4")
    assert tuple(whole[: len(forced.start)]) == forced.start
    rest = whole[len(forced.start) + 1 :]
    assert tuple(rest[: len(forced.end) + len(forced.following)]) == forced.end + forced.following
