"""Predictions of a task whose targets are labels: the label of the highest likelihood, without decoding."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from explainft.data.token_cache import TokenCache
from explainft.data.vocabulary import Vocabulary
from explainft.generation.decoding import Tokens
from explainft.generation.forced_tokens import encode_context
from explainft.generation.generator import Generator, Output, Ranking
from explainft.generation.likelihood import log_likelihoods, own_log_likelihoods
from explainft.model.labels import encode_labels
from explainft.model.t5 import T5


@dataclasses.dataclass(frozen=True)
class LabelChooser:
    """A model with its parameters for decoding, its vocabulary, and the labels of the task's examples in their order.

    It takes the place of a Generator. `prefixes` are what the decoder reads before the label, of the same examples
    (None: nothing); they go with labels that are the same for all.
    """

    model: T5
    params: Any
    vocabulary: Vocabulary
    batch_size: int
    labels: Sequence[tuple[str, ...]]
    prefixes: Sequence[Tokens] | None = None

    def generate(
        self,
        inputs: Sequence[Tokens],
        length: int,
        progress: Callable[[int], object] = lambda complete: None,
        between_batches: Callable[[], None] = lambda: None,
    ) -> list[Output]:
        """Returns the label of the highest likelihood for each input, the task's first. No label is cut at `length`."""

        def after_batch(scored: int) -> None:
            progress(scored)
            between_batches()

        labels = self.labels[: len(inputs)]
        encoded = {texts: encode_labels(texts, self.vocabulary) for texts in set(labels)}
        arguments = self.model, self.params, inputs
        if len(encoded) == 1:
            prefixes = self.prefixes and self.prefixes[: len(inputs)]
            found = log_likelihoods(*arguments, encoded[labels[0]], self.batch_size, after_batch, prefixes)
        else:
            found = own_log_likelihoods(*arguments, [encoded[texts] for texts in labels], self.batch_size, after_batch)
        rankings = [
            Ranking(texts, tuple(own.tolist()), tuple(encoded[texts].lengths.tolist()))
            for texts, own in zip(labels, found, strict=True)
        ]
        return [Output(ranking.best(), ranking=ranking) for ranking in rankings]


def predictor(model: T5, params: Any, cache: TokenCache, batch_size: int) -> Generator | LabelChooser:
    """Returns what predicts the outputs of a task, in its vocabulary: by labels, in rounds, or greedily."""
    labels = cache.labels()
    if labels is not None:
        return LabelChooser(model, params, cache.vocabulary, batch_size, labels, cache.prefixes())
    context = cache.context()
    forced = None if context is None else encode_context(context, cache.vocabulary)
    return Generator(model, params, cache.vocabulary, batch_size, cache.iterative(), forced)
