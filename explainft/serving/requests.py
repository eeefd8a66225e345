"""What a request asks for: the fields of OpenAI's completions and chat completions that an encoder-decoder can serve.

A field that cannot be served is refused by name, unless its value changes nothing.
"""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from explainft.core.errors import UserError
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.evaluation.inference_inputs import InferenceInput, InputReader
from explainft.generation.continuous import MAX_CANDIDATES
from explainft.serving.batch import Limits
from explainft.serving.engine import Prompt, Settings
from explainft.serving.errors import ApiError
from explainft.serving.fields import Fields

MAX_STOP = 4
MIN_TEMPERATURE = 1e-5  # below it decoding is greedy
SEEDS = -(2**63), 2**64 - 1
# Fields that are not supported, with the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
}
_COMPLETION_NEUTRAL = {**_NEUTRAL, "echo": (False,), "suffix": ("",)}
_CHAT_NEUTRAL = {
    **_NEUTRAL,
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
}
_SHARED = {"model", "n", "temperature", "top_p", "max_tokens", "stop", "seed", "stream", "stream_options", "logprobs"}
_SHARED |= {"user", "explainft"}
_COMPLETION = _SHARED | {"prompt", "best_of"} | _COMPLETION_NEUTRAL.keys()
_CHAT = _SHARED | {"messages", "max_completion_tokens", "top_logprobs"} | _CHAT_NEUTRAL.keys()
ROLES = ("system", "developer", "user", "assistant")
CHECK_FIELDS = ("question", "choices", "answer")


@dataclasses.dataclass(frozen=True)
class Generation:
    """A valid request. `checked`: for each prompt what its outputs are read and checked by; None: not asked for."""

    chat: bool
    prompts: Sequence[Prompt]
    num_samples: int
    settings: Settings
    include_usage: bool
    checked: Sequence[InferenceInput] | None

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)


@dataclasses.dataclass(frozen=True)
class RequestReader:
    """Reads requests to one model. `reader`: of its questions; None: of a checkpoint that has no problem.

    `max_outputs`: of one request, that is prompts times `n`.
    """

    model: str
    vocabulary: Vocabulary
    vocab_size: int
    limits: Limits
    max_outputs: int
    reader: InputReader | None
    computes_answers: bool = False  # those of ListOps expressions

    def completion(self, body: Mapping[str, Any]) -> Generation:
        """Reads the body of /v1/completions. Raises ApiError."""
        fields = self._fields(body, _COMPLETION, _COMPLETION_NEUTRAL)
        n = fields.integer("n", 1, 1, self.max_outputs)
        if fields.get("best_of") is not None and fields.get("best_of") != n:
            raise fields.error("best_of", f"is not supported beyond n={n}; leave it out")
        logprobs = fields.integer("logprobs", None, 0, MAX_CANDIDATES)
        prompts = _prompts(fields)
        return self._generation(False, fields, prompts, n, logprobs, fields.integer("max_tokens", None, 1, self._room))

    def chat(self, body: Mapping[str, Any]) -> Generation:
        """Reads the body of /v1/chat/completions. Raises ApiError."""
        fields = self._fields(body, _CHAT, _CHAT_NEUTRAL)
        n = fields.integer("n", 1, 1, self.max_outputs)
        logprobs = fields.integer("top_logprobs", None, 0, MAX_CANDIDATES)
        if logprobs is not None and not fields.boolean("logprobs"):
            raise fields.error("top_logprobs", "needs logprobs=true")
        if fields.boolean("logprobs") and logprobs is None:
            logprobs = 0
        max_tokens = fields.integer("max_tokens", None, 1, self._room)
        completion_tokens = fields.integer("max_completion_tokens", None, 1, self._room)
        if None not in (max_tokens, completion_tokens) and max_tokens != completion_tokens:
            raise fields.error("max_tokens", "contradicts max_completion_tokens; give one of them")
        prompts = [_last_user_message(fields)]
        return self._generation(True, fields, prompts, n, logprobs, max_tokens or completion_tokens)

    @property
    def _room(self) -> int:
        return self.limits.output_length

    def _fields(self, body: Mapping[str, Any], known: set[str], neutral: Mapping[str, tuple[Any, ...]]) -> Fields:
        fields = Fields(body)
        model = fields.text("model")
        if model != self.model:
            message = f"no model {model[:80]!r}; this server has {self.model!r}"
            raise ApiError(404, message, "model", "model_not_found")
        fields.refuse_unknown(known)
        for name, values in neutral.items():
            fields.refuse_others(name, *values)
        if fields.get("user") is not None:
            fields.text("user")
        return fields

    def _generation(
        self, chat: bool, fields: Fields, prompts: Sequence[Any], n: int, logprobs: int | None, max_tokens: int | None
    ) -> Generation:
        if len(prompts) * n > self.max_outputs:
            raise fields.error("n", f"times {len(prompts)} prompts must be at most {self.max_outputs} outputs")
        temperature = fields.number("temperature", 1.0, 0, 2)
        streams = fields.boolean("stream")
        seed = fields.integer("seed", None, *SEEDS)
        settings = Settings(
            temperature=temperature if temperature >= MIN_TEMPERATURE else 0.0,
            top_p=fields.number("top_p", 1.0, 0, 1),
            seed=secrets.randbits(64) if seed is None else seed % 2**64,
            stop=_stop(fields),
            logprobs=logprobs,
            streams=streams,
        )
        param = "messages" if chat else "prompt"
        tokens = [self._tokens(prompt, param) for prompt in prompts]
        return Generation(
            chat=chat,
            prompts=[
                Prompt(ids, max_tokens or self._default_length(prompt))
                for prompt, ids in zip(prompts, tokens, strict=True)
            ],
            num_samples=n,
            settings=settings,
            include_usage=_include_usage(fields, streams),
            checked=self._checked(fields, prompts),
        )

    def _tokens(self, prompt: str | Sequence[int], param: str) -> Sequence[int]:
        """Returns the token ids of a prompt; of a text, with EOS."""
        if isinstance(prompt, str):
            try:
                prompt.encode()
            except UnicodeEncodeError as error:
                raise ApiError(400, f"{param} has a lone surrogate, which is not a character", param) from error
            ids: Sequence[int] = [*self.vocabulary.encode(prompt), EOS_ID]
        else:
            ids = prompt
            if not all(0 < token < self.vocab_size for token in ids):
                raise ApiError(400, f"{param} has token ids that are not from 1 to {self.vocab_size - 1}", param)
        limit = self.limits.input_length
        if len(ids) > limit:
            message = f"{param} has {len(ids):,} tokens, and this server reads at most {limit:,}"
            raise ApiError(400, message, param, "context_length_exceeded")
        return ids

    def _default_length(self, prompt: str | Sequence[int]) -> int:
        """Returns the length limit of `explainft infer`, as far as the server goes."""
        if self.reader is None or not isinstance(prompt, str):
            return self._room
        try:
            [one] = self.reader.parse([prompt])
        except UserError:  # not a question, and decoded all the same
            return self._room
        return min(self._room, self.reader.max_length(one, self.vocabulary))

    def _checked(self, fields: Fields, prompts: Sequence[Any]) -> list[InferenceInput] | None:
        given = fields.get("explainft")
        if given is None:
            return None
        if self.reader is None:
            raise ApiError(400, f"explainft: {self.model} has no problem to check answers with", "explainft")
        objects = given if isinstance(given, list) else [given]
        if len(objects) != len(prompts):
            raise ApiError(400, f"explainft must be an object for each of the {len(prompts)} prompts", "explainft")
        return [self._check(one, prompt) for one, prompt in zip(objects, prompts, strict=True)]

    def _check(self, given: Any, prompt: Any) -> InferenceInput:
        assert self.reader is not None
        if not isinstance(given, dict):
            raise ApiError(400, "explainft must be an object, such as {} or with a question", "explainft")
        known = CHECK_FIELDS[:1] if self.computes_answers else CHECK_FIELDS
        for name in given:
            if name not in known:
                raise ApiError(400, f"explainft has {name[:80]!r}; known: {', '.join(known)}", "explainft")
        question = given.get("question", prompt)
        if not isinstance(question, str):
            raise ApiError(400, "explainft.question must be a string; of token ids it must be given", "explainft")
        row = question if self.computes_answers else {**given, "question": question}
        try:
            return self.reader.parse([row])[0]
        except UserError as error:
            raise ApiError(400, f"explainft: {error.line}", "explainft") from error


def _prompts(fields: Fields) -> Sequence[str | Sequence[int]]:
    """Returns the prompts: texts, or lists of token ids."""
    found = fields.get("prompt")
    if isinstance(found, str):
        return [found]
    if isinstance(found, list) and found:
        if all(isinstance(one, str) for one in found):
            return found
        if _is_ids(found):
            return [found]
        if all(_is_ids(one) for one in found):
            return found
    raise fields.error("prompt", "must be a string, a list of strings, token ids, or a list of lists of token ids")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _last_user_message(fields: Fields) -> str:
    """Returns the text of the last message of the user, which alone is the model's input."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise fields.error("messages", "must be a list of messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ApiError(400, f"messages[{i}] must be an object whose role is one of {', '.join(ROLES)}", "messages")
        if other := message.keys() - {"role", "content", "name"}:
            raise ApiError(400, f"messages[{i}] has {min(other)[:80]!r}, which is not supported", "messages")
    texts = [(i, message["content"]) for i, message in enumerate(messages) if message["role"] == "user"]
    if not texts:
        raise ApiError(400, "messages has no message of the user, which is the model's input", "messages")
    return _content(*texts[-1])


def _content(i: int, content: Any) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ApiError(400, f"messages[{i}] must have text as its content", "messages")
    return "\n".join(part["text"] for part in parts)


def _stop(fields: Fields) -> tuple[str, ...]:
    found = fields.get("stop")
    if found is None:
        return ()
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or len(texts) > MAX_STOP or not all(isinstance(s, str) and s for s in texts):
        raise fields.error("stop", f"must be a string or a list of up to {MAX_STOP} of them, none empty")
    return tuple(texts)


def _include_usage(fields: Fields, streams: bool) -> bool:
    if fields.get("stream_options") is None:
        return False
    if not streams:
        raise fields.error("stream_options", "needs stream=true")
    options = fields.inner("stream_options")
    options.refuse_unknown({"include_usage"})
    return options.boolean("include_usage")
