"""From the token ids of inputs to the texts of predictions, in one pass or in several rounds."""

import dataclasses
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from explainft.data.task_registry import Iterative
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.generation import decoding, forced_tokens
from explainft.generation.decoding import Tokens
from explainft.generation.forced_tokens import ForcedTokens
from explainft.model.t5 import T5

RESAMPLES, TEMPERATURE = 64, 1.5  # in the place of a rejected output


class Ranking(NamedTuple):
    """Labels, the log-likelihood of each as a whole, EOS included, and their numbers of tokens with EOS."""

    labels: tuple[str, ...]
    log_likelihoods: tuple[float, ...]
    num_tokens: tuple[int, ...]

    def scores(self, normalized: bool = False) -> tuple[float, ...]:
        """Returns the log-likelihoods, or `normalized` by length their means over tokens."""
        if not normalized:
            return self.log_likelihoods
        return tuple(total / n for total, n in zip(self.log_likelihoods, self.num_tokens, strict=True))

    def best(self, normalized: bool = False) -> str:
        """Returns the label of the highest score; of equal ones the last in alphabetical order, in any order given."""
        return max(zip(self.scores(normalized), self.labels, strict=True))[1]


class Output(NamedTuple):
    """A prediction's text, and whether it was cut at the length limit, before EOS.

    A text that is a label has the `ranking` that it leads.
    """

    text: str
    cut: bool = False
    ranking: Ranking | None = None


@dataclasses.dataclass(frozen=True)
class Generator:
    """A model with its parameters for decoding and its vocabulary; greedy.

    With `iterative`, a prediction is the outputs of all rounds, one a line; see task_registry.register_iterative.
    Outputs contain the `forced` tokens, where a task has some.
    """

    model: T5
    params: Any
    vocabulary: Vocabulary
    batch_size: int
    iterative: Iterative | None = None
    forced: ForcedTokens | None = None

    def generate(
        self,
        inputs: Sequence[Tokens],
        length: int,
        progress: Callable[[int], object] = lambda complete: None,
        between_batches: Callable[[], None] = lambda: None,
    ) -> list[Output]:
        """Returns the predictions for inputs that end with EOS, in order; an output has at most `length` tokens.

        A prediction of several rounds was cut where one of its outputs was.

        `progress` is called with the number of predictions that have become complete.
        """
        if self.iterative is not None:
            return self._generate_iteratively(self.iterative, inputs, length, progress, between_batches)

        def after_batch(decoded: int) -> None:
            progress(decoded)
            between_batches()

        return self._decode(inputs, length, after_batch)

    def _generate_iteratively(
        self,
        iterative: Iterative,
        inputs: Sequence[Tokens],
        length: int,
        progress: Callable[[int], object],
        between_batches: Callable[[], None],
    ) -> list[Output]:
        lines: list[list[Output]] = [[] for _ in inputs]
        pending = dict(enumerate(inputs))
        for round_number in range(1, iterative.max_rounds + 1):
            texts = {i: self.vocabulary.decode([int(token) for token in ids[:-1]]) for i, ids in pending.items()}
            decoded = self._decode(list(pending.values()), length, lambda _: between_batches())
            outputs = dict(zip(pending, decoded, strict=True))
            following = {i: iterative.next_input(texts[i], outputs[i].text) for i in pending}
            rejected = [i for i in pending if following[i] == texts[i]]
            samples = self._resample([pending[i] for i in rejected], length, lambda _: between_batches())
            for i, candidates in zip(rejected, samples, strict=True):
                pairs = ((output, iterative.next_input(texts[i], output.text)) for output in candidates)
                outputs[i], following[i] = next((pair for pair in pairs if pair[1] != texts[i]), (outputs[i], None))
            for i, output in outputs.items():
                lines[i].append(output)
            still = {i: [*self.vocabulary.encode(text), EOS_ID] for i, text in following.items() if text is not None}
            if round_number == iterative.max_rounds:
                still = {}
            progress(len(pending) - len(still))
            pending = still
            if not pending:
                break
        return [Output("\n".join(o.text for o in outputs), any(o.cut for o in outputs)) for outputs in lines]

    def _decode(self, inputs: Sequence[Tokens], length: int, after_batch: Callable[[int], object]) -> list[Output]:
        arguments = (self.model, self.params, inputs, length, self.batch_size)
        if self.forced is None:
            decoded = decoding.generate(*arguments, after_batch)
        else:
            decoded = forced_tokens.generate(*arguments, self.forced, after_batch)
        return [self._output(ids, length) for ids in decoded]

    def _output(self, ids: list[int], length: int) -> Output:
        return Output(self.vocabulary.decode(ids), cut=len(ids) == length)

    def _resample(
        self, inputs: Sequence[Tokens], length: int, after_batch: Callable[[int], object]
    ) -> list[list[Output]]:
        """Returns RESAMPLES outputs of each input, for the same input always the same."""
        # Of the input itself: its place among the rejected depends on the others.
        digests = [blake2b(np.asarray(ids, "<i4").tobytes(), digest_size=8).digest() for ids in inputs]
        example_ids = [int.from_bytes(digest) for digest in digests]
        sampled = decoding.sample(
            self.model,
            self.params,
            inputs,
            length,
            self.batch_size,
            RESAMPLES,
            TEMPERATURE,
            progress=after_batch,
            example_ids=example_ids,
        )
        return [[self._output(ids, length) for ids in outputs] for outputs in sampled]
