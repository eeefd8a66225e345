"""Generation in one pass and in several rounds, with untrained parameters: what the texts say does not matter."""

import dataclasses
import re

import pytest

from explainft.data.compact_vocabulary import COMPACT
from explainft.data.task_registry import Iterative, register_iterative
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.generation import decoding, generator
from explainft.generation.generator import Generator
from explainft.model.t5 import T5
from tests.golden import cases
from tests.model.t5_test import SMALL

OUTER, INNER = "[MAX 2 [MIN 4 [SUM 7 5 ] 3 8 ] 1 ]", "[MIN 4 [SUM 7 5 ] 3 8 ]"
OTHER = "[SUM 7 5 [MED 1 2 9 ] 3 ]"
TEXTS = (OUTER, OTHER, INNER)
LENGTH = 12


@pytest.fixture(scope="module")
def untrained():
    vocabulary = Vocabulary(COMPACT)
    config = dataclasses.replace(SMALL, vocab_size=vocabulary.size)
    params = cases.decoding_params(config)
    params["token_embedder"]["embedding"][EOS_ID] *= 2  # some outputs end early
    return Generator(T5(config), params, vocabulary, batch_size=4)


def iterative(one_pass, next_input, max_rounds=9):
    return dataclasses.replace(one_pass, iterative=Iterative(next_input, max_rounds))


def token_ids(texts):
    vocabulary = Vocabulary(COMPACT)
    return [[*vocabulary.encode(text), EOS_ID] for text in texts]


def inner_list(inputs: str, output: str) -> str | None:
    """The list inside of MAX comes after the whole; the output does not matter."""
    match = re.match(r"\[MAX 2 (\[.*\]) ", inputs)
    return match[1] if match else None


def reject(inputs: str, output: str) -> str:
    return inputs


def test_each_next_input_is_decoded_until_there_is_none(untrained):
    generator, complete = dataclasses.replace(untrained, batch_size=2), []
    outputs = generator.generate(token_ids(TEXTS), LENGTH, complete.append)
    assert len(set(outputs)) == 3 and sum(complete) == 3
    complete.clear()
    predictions = iterative(generator, inner_list).generate(token_ids(TEXTS), LENGTH, complete.append)
    texts = [output.text for output in outputs]
    assert [prediction.text for prediction in predictions] == [f"{texts[0]}\n{texts[2]}", texts[1], texts[2]]
    assert complete == [2, 1]


@pytest.mark.parametrize("max_rounds", [1, 3])
def test_rounds_are_bounded(untrained, max_rounds):
    """Two inputs that follow each other never end on their own."""
    cycle, complete = {INNER: OTHER, OTHER: INNER}, []
    generator = iterative(untrained, lambda inputs, output: cycle[inputs], max_rounds)
    [inner, other] = untrained.generate(token_ids([INNER, OTHER]), LENGTH)
    [prediction] = generator.generate(token_ids([INNER]), LENGTH, complete.append)
    assert prediction.text == "\n".join([inner.text, other.text, inner.text][:max_rounds])
    assert sum(complete) == 1


def test_a_bound_below_one_is_refused():
    with pytest.raises(ValueError, match="max_rounds=0 must be at least 1"):
        register_iterative("a_task", reject, max_rounds=0)


def test_the_first_accepted_sample_replaces_a_rejected_output(untrained):
    def starts_early(inputs: str, output: str) -> str | None:
        return None if output[:1] and output[0] < "M" else inputs

    inputs = token_ids([*TEXTS, "[MIN 1 2 ]", "[MAX 3 4 ]", "[MED 1 2 3 ]"])
    greedy = untrained.generate(inputs, LENGTH)
    generator = iterative(untrained, starts_early)
    predictions = generator.generate(inputs, LENGTH)
    assert predictions == generator.generate(inputs, LENGTH)
    accepted = [[starts_early("", output.text) is None for output in outputs] for outputs in (greedy, predictions)]
    assert sum(accepted[0]) < sum(accepted[1])
    assert all(a == b for a, b, keep in zip(greedy, predictions, accepted[0], strict=True) if keep)


def test_a_rejected_output_without_an_accepted_sample_stands(untrained):
    inputs = token_ids(TEXTS)
    assert iterative(untrained, reject).generate(inputs, LENGTH) == untrained.generate(inputs, LENGTH)


def test_samples_in_place_of_rejected_outputs_depend_on_the_input_alone(untrained):
    greedy = {output.text for output in untrained.generate(token_ids(TEXTS), LENGTH)}

    def another(inputs: str, output: str) -> str | None:
        return inputs if output in greedy else None

    generator = iterative(untrained, another)
    together = generator.generate(token_ids(TEXTS), LENGTH)
    assert not {output.text for output in together} & greedy
    assert [generator.generate([ids], LENGTH)[0] for ids in token_ids(TEXTS)] == together


def test_a_stop_is_possible_after_each_batch(untrained, monkeypatch):
    inputs, batches = token_ids([OUTER]) * 16, []
    monkeypatch.setattr(generator, "RESAMPLES", 4)
    iterative(untrained, inner_list).generate(inputs, LENGTH, between_batches=lambda: batches.append(None))
    assert len(batches) == 2 * 4  # two outputs an input, four inputs a batch
    batches.clear()
    iterative(untrained, reject).generate(inputs, LENGTH, between_batches=lambda: batches.append(None))
    assert len(batches) == 4 + 16  # one input's samples fill a batch


def test_one_pass_equals_decoding(untrained):
    outputs = decoding.generate(untrained.model, untrained.params, token_ids(TEXTS), LENGTH, 4)
    texts = [output.text for output in untrained.generate(token_ids(TEXTS), LENGTH)]
    assert texts == [untrained.vocabulary.decode(ids) for ids in outputs]


def test_an_output_without_eos_was_cut(untrained):
    ends = [len(ids) for ids in decoding.generate(untrained.model, untrained.params, token_ids(TEXTS), 200, 4)]
    for length in (min(ends), min(ends) + 1):  # EOS takes a place too
        outputs = untrained.generate(token_ids(TEXTS), length)
        assert [output.cut for output in outputs] == [end >= length for end in ends]
        [prediction] = iterative(untrained, inner_list).generate(token_ids([OUTER]), length)
        assert prediction.cut == (outputs[0].cut or outputs[2].cut)
