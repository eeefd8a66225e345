"""Which texts a vocabulary loses something of: unknown tokens, and characters that its normalization changes."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from explainft.data.vocabulary import Vocabulary

SHOWN = 8  # characters in a line
SPACES = "spaces at an end or in a run"


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Numbers of texts: of all, with unknown tokens, and with changed characters alone or as well.

    The mappings have the number of texts that hold a character, the most frequent first. Among what is changed, SPACES
    stands for spaces that are dropped.
    """

    texts: int
    unknown: int
    changed: int
    unknown_characters: Mapping[str, int]
    changed_characters: Mapping[str, int]

    def line(self, what: str) -> str | None:
        """Returns one line about `what`, such as "targets"; None where nothing is lost."""
        parts = []
        for n, verb, counts in (
            (self.unknown, "hold tokens that this vocabulary cannot write", self.unknown_characters),
            (self.changed, "hold characters that it changes", self.changed_characters),
        ):
            if n:
                shown = [f"{c if c == SPACES else repr(c)} {k:,}" for c, k in list(counts.items())[:SHOWN]]
                rest = ", ..." if len(counts) > SHOWN else ""
                parts.append(f"{n:,} of {self.texts:,} {what} {verb}: {', '.join(shown)}{rest}")
        return "; ".join(parts) or None


class Counts:
    """Counts the coverage of texts as they come."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._is_unknown: dict[str, bool | None] = {}  # of each character met; None: encoded and decoded unchanged
        lost = [c for c in map(chr, range(128)) if self._lost(c) is not None]
        self._lost_ascii, self._lost_printable = lost, [c for c in lost if c.isprintable()]
        self._drops_spaces = vocabulary.decode(vocabulary.encode("a  a")) != "a  a"
        self._texts = 0
        self._totals = Counter[bool]()
        self._counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}

    def add(self, text: str) -> None:
        """Counts a text."""
        self._texts += 1
        lost = [c for c in (self._lost_printable if text.isprintable() else self._lost_ascii) if c in text]
        if not text.isascii():
            lost += [c for c in set(text) if not c.isascii() and self._lost(c) is not None]
        if self._drops_spaces and ("  " in text or text[:1] == " " or text[-1:] == " "):
            lost.append(SPACES)
        if lost:
            self._count(lost)

    def _count(self, lost: list[str]) -> None:
        kinds = set()
        for character in lost:
            is_unknown = character != SPACES and bool(self._lost(character))
            kinds.add(is_unknown)
            self._counts[is_unknown][character] += 1
        self._totals.update(kinds)

    def coverage(self) -> Coverage:
        """Returns the coverage of the texts so far."""
        unknown, changed = (
            dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
            for counts in (self._counts[True], self._counts[False])
        )
        return Coverage(self._texts, self._totals[True], self._totals[False], unknown, changed)

    def _lost(self, character: str) -> bool | None:
        """Returns True for an unknown character, False for one that is changed, None for any other."""
        if character not in self._is_unknown:
            text = f"a{character}a"  # one at an end, or after a space, may be dropped or joined
            ids = self._vocabulary.encode(text)
            if self._vocabulary.unknown_id in ids:
                self._is_unknown[character] = True
            else:
                self._is_unknown[character] = None if self._vocabulary.decode(ids) == text else False
        return self._is_unknown[character]


def coverage(vocabulary: Vocabulary, texts: Iterable[str]) -> Coverage:
    """Returns which of the texts the vocabulary loses something of.

    Each distinct character is encoded once, and no whole text.
    """
    counts = Counts(vocabulary)
    for text in texts:
        counts.add(text)
    return counts.coverage()
