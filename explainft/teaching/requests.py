"""A teacher's requests, and the keys that their answers are kept under."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from hashlib import blake2b

from explainft.core.errors import UserError, require_count, require_positive
from explainft.data.questions.examples import Question
from explainft.teaching.exemplars import Exemplar, Prompts

APIS = ("chat", "completions")
CUT, COMPLETE = "length", "stop"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a teacher writes. Answers of other settings are not used again, but for `max_tokens`, see `Request.needs`.

    `model` names what writes; `seed` None: the server chooses.
    """

    model: str
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 256
    api: str = "chat"

    def __post_init__(self):
        require_positive(max_tokens=self.max_tokens)
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature} must be a finite number of at least 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} must be above 0 and at most 1; 1 keeps all tokens")
        if self.seed is not None:
            require_count(seed=self.seed)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a teacher wrote. `text` is None where it was cut at `max_tokens`; token counts are None where unknown."""

    text: str | None
    finish_reason: str
    max_tokens: int
    request_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """One explanation to ask for: the `index`-th of a question by a method."""

    question: Question
    method: str
    index: int
    prompt: str
    stop: Sequence[str]
    settings: Settings

    @property
    def seed(self) -> int | None:
        """The seed of this explanation: those of one question differ."""
        return None if self.settings.seed is None else self.settings.seed + self.index

    @functools.cached_property
    def key(self) -> str:
        """A digest of the model, the prompt and how it is sampled, without the limit on tokens.

        Equal questions share it, and are asked once.
        """
        one = self.settings
        parts = [one.model, one.api, self.prompt, list(self.stop), one.temperature, one.top_p, one.seed, self.index]
        return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def needs(self, answer: Answer | None) -> bool:
        """Returns whether to ask: there is no answer, or it was cut at a smaller limit."""
        return answer is None or (answer.finish_reason == CUT and answer.max_tokens < self.settings.max_tokens)


def make_requests(
    questions: Sequence[Question], method: str, number: int, prompts: Prompts, settings: Settings
) -> list[Request]:
    """Returns `number` requests for each question."""
    return [
        Request(question, method, index, prompt, prompts.stop, settings)
        for question in questions
        for prompt in [prompts.prompt(method, _exemplar(question))]
        for index in range(number)
    ]


def _exemplar(question: Question) -> Exemplar:
    return Exemplar(question.question, question.answer, choices=question.choices)
