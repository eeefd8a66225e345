"""Lengths in tokens of imported questions, and what T5's vocabulary alone would lose of them."""

import heapq
import os
from pathlib import Path
from statistics import median

from explainft.core.errors import UserError
from explainft.data.coverage import Counts
from explainft.data.questions.examples import Question
from explainft.data.questions.forms import FORMS, input_text, target_text
from explainft.data.vocabulary import Vocabulary

SAMPLE = 2048  # rows of a split that are encoded; beside them the LONGEST by characters
LONGEST = 64


class Lengths:
    """Sees the questions of one split as they come, and keeps a sample of them: every n-th, for the whole split."""

    def __init__(self, vocabulary: Vocabulary):
        self._counts = {what: Counts(vocabulary) for what in ("questions", "answers", "explanations")}
        self._encoder = Vocabulary(vocabulary.path, vocabulary.extra_ids, replacement=True)
        self._rows, self._step = 0, 1
        self._sample: list[Question] = []
        self._longest: dict[str, list[tuple[int, int, Question]]] = {"inputs": [], "targets": []}

    def add(self, question: Question) -> None:
        """Counts a question."""
        counts, explanation = self._counts, question.explanation
        text = "|".join((question.question, *question.choices))
        counts["questions"].add(text)
        counts["answers"].add(question.answer)
        if explanation:
            counts["explanations"].add(explanation)
        if self._rows % self._step == 0:
            self._sample.append(question)
            if len(self._sample) == 2 * SAMPLE:
                self._sample, self._step = self._sample[::2], 2 * self._step
        for kind, length in (("inputs", len(text)), ("targets", len(question.answer) + len(explanation))):
            longest = self._longest[kind]
            if len(longest) < LONGEST:
                heapq.heappush(longest, (length, -self._rows, question))
            elif length > longest[0][0]:
                heapq.heapreplace(longest, (length, -self._rows, question))
        self._rows += 1

    def lines(self, split: str) -> list[str]:
        """Returns the report of the split, a line each."""
        lost = [line for what, counts in self._counts.items() if (line := counts.coverage().line(what))]
        lines = [f"{split}, T5's vocabulary alone: {line}" for line in lost]
        if lost:
            lines.append(f"{split}: the tasks of tasks.questions replace all of them, and restore them in outputs")
        explained = any(question.explanation for question in self._sample)
        texts = {"inputs": lambda q: input_text(q.question, q.choices)}
        answered = any(question.answer for question in self._sample)
        for form in () if not answered else FORMS if explained else FORMS[:1]:
            texts[f"{form} targets"] = lambda q, form=form: target_text(form, q.answer, q.explanation)
        of = "" if self._step == 1 else f" (of {len(self._sample):,} rows and the {LONGEST} longest)"
        for name, text in texts.items():
            sample = sorted(self._tokens(text(question)) for question in self._sample)
            longest = self._longest["inputs" if name == "inputs" else "targets"]
            greatest = max(self._tokens(text(question)) for _, _, question in longest)
            middle, most = median(sample), sample[int(0.95 * (len(sample) - 1))]
            lines.append(
                f"{split}: tokens of {name}, with EOS: min {sample[0]:,}, median {middle:,.0f}, 95% {most:,}, "
                f"max {max(greatest, sample[-1]):,}{of}"
            )
        return lines

    def _tokens(self, text: str) -> int:
        return len(self._encoder.encode(text)) + 1


def find_vocabulary() -> tuple[Vocabulary | None, str]:
    """Returns T5's vocabulary where EXPLAINFT_T5_VOCAB names a file of it; else a line that says why there is none."""
    path = os.environ.get("EXPLAINFT_T5_VOCAB")
    fix = "set EXPLAINFT_T5_VOCAB to a copy of T5's sentencepiece.model to see lengths in tokens"
    if not path or "://" in path:
        return None, fix if not path else f"EXPLAINFT_T5_VOCAB={path} is not read here; {fix}"
    try:
        return Vocabulary(Path(path)), ""
    except UserError as error:
        return None, f"EXPLAINFT_T5_VOCAB: {error.line}"
