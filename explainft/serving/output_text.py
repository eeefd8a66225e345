"""The text of an output while its tokens come: what is certain so far, and where a stop string ends it."""

from collections.abc import Sequence
from typing import NamedTuple

from explainft.data.vocabulary import EOS_ID, Vocabulary


class TokenLogprob(NamedTuple):
    """A token of an output, where its text begins, and the most probable tokens at its position."""

    text: str
    offset: int
    logprob: float
    candidates: Sequence[tuple[str, float]]


class OutputText:
    """Collects the tokens of one output.

    `stop`: strings before which the text ends. `streams`: whether text is taken before the end. Only then, or with stop
    strings, is the text read after each token.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str], streams: bool, logprobs: bool):
        self.stopped = False  # by a stop string
        self._vocabulary, self._stop, self._logprobs = vocabulary, stop, logprobs
        self._reads = streams or bool(stop)
        self._ids: list[int] = []
        self._certain = ""  # what no further token changes, without what may begin a stop string
        self._taken = 0  # characters
        self._tokens: list[tuple[TokenLogprob, int]] = []  # not yet taken, with the ends of their texts
        self._length = 0  # of the text of all tokens so far, where log-probabilities are wanted

    def append(self, token: int, logprob: float, candidates: Sequence[tuple[int, float]]) -> None:
        """Adds a token; EOS and what follows it are not part of the text."""
        if token == EOS_ID:
            return
        self._ids.append(token)
        if self._logprobs:
            begin = self._length
            self._length = max(begin, len(self._vocabulary.decode(self._ids)))
            named = [(self._vocabulary.token_text(id), value) for id, value in candidates]
            found = TokenLogprob(self._vocabulary.token_text(token), begin, logprob, named)
            self._tokens.append((found, self._length))
        if self._reads:
            text = self._cut(self._vocabulary.decode_prefix(self._ids))
            self._certain = text if self.stopped else text[: len(text) - self._held_back(text)]

    def end(self) -> None:
        """Makes all of the text certain."""
        if not self.stopped:
            self._certain = self._cut(self._vocabulary.decode(self._ids))

    def take(self) -> str:
        """Returns what has become certain since the last call."""
        begin, self._taken = self._taken, max(self._taken, len(self._certain))
        return self._certain[begin:]

    def take_tokens(self, ended: bool) -> list[TokenLogprob]:
        """Returns the tokens since the last call whose text was taken; at the end also one that a stop string cuts."""
        count = 0
        for token, end in self._tokens:
            if end > self._taken and not (ended and token.offset < self._taken):
                break
            count += 1
        taken = [token for token, _ in self._tokens[:count]]
        del self._tokens[:count]
        return taken

    def _cut(self, text: str) -> str:
        places = [at for at in map(text.find, self._stop) if at >= 0]
        self.stopped = bool(places)
        return text[: min(places)] if places else text

    def _held_back(self, text: str) -> int:
        """Returns the length of the longest end of the text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        ends = range(min(longest, len(text)), 0, -1)
        return next((n for n in ends if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)
