"""The shapes of answers: OpenAI's completions and chat completions, whole or as chunks."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from explainft.evaluation.infer import Prediction
from explainft.evaluation.inference_inputs import InferenceInput
from explainft.evaluation.step_checks import check_fields
from explainft.generation.generator import Output
from explainft.serving.engine import Delta
from explainft.serving.fields import finite
from explainft.serving.output_text import TokenLogprob
from explainft.serving.requests import Generation


def encode(value: Mapping[str, Any]) -> bytes:
    """Returns compact JSON, which has no NaN and no infinities."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def event(value: Mapping[str, Any]) -> bytes:
    """Returns a server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


LAST_EVENT = b"data: [DONE]\n\n"


class Answer:
    """Collects what the outputs of a request gain, and gives it its shape."""

    def __init__(self, model: str, generation: Generation):
        self._generation = generation
        kind = "chatcmpl" if generation.chat else "cmpl"
        self._head = {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        count = len(generation.prompts) * generation.num_samples
        self._texts = [""] * count
        self._tokens: list[list[TokenLogprob]] = [[] for _ in range(count)]
        self._num_tokens = [0] * count
        self._reasons: list[str | None] = [None] * count

    def add(self, delta: Delta) -> None:
        self._texts[delta.output] += delta.text
        self._tokens[delta.output] += delta.tokens
        self._num_tokens[delta.output] = delta.num_tokens
        self._reasons[delta.output] = delta.finish_reason

    @property
    def complete(self) -> bool:
        return all(self._reasons)

    def json(self) -> dict[str, Any]:
        """Returns the whole answer. Reading what outputs state may take long."""
        choices = []
        for i, text in enumerate(self._texts):
            message = {"role": "assistant", "content": text, "refusal": None}
            own = {"message": message} if self._generation.chat else {"text": text}
            choices.append(self._choice(i, own, self._tokens[i]))
        kind = "chat.completion" if self._generation.chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self._usage()}

    def first_chunks(self) -> list[dict[str, Any]]:
        """Returns the chunks before all deltas: of a chat the role of each message."""
        if not self._generation.chat:
            return []
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk([self._choice(i, delta, [])]) for i in range(len(self._texts))]

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """Returns the chunk of a delta that was added."""
        if not self._generation.chat:
            own: dict[str, Any] = {"text": delta.text}
        else:
            own = {"delta": {"content": delta.text} if delta.text or not delta.finish_reason else {}}
        return self._chunk([self._choice(delta.output, own, delta.tokens)])

    def usage_chunk(self) -> dict[str, Any] | None:
        """Returns the chunk after all deltas, where the request asked for it."""
        return {**self._chunk([]), "usage": self._usage()} if self._generation.include_usage else None

    def _chunk(self, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._generation.chat else "text_completion"
        usage = {"usage": None} if self._generation.include_usage else {}
        return {**self._head, "object": kind, "choices": choices, **usage}

    def _choice(self, output: int, own: Mapping[str, Any], tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        reason, checked = self._reasons[output], self._generation.checked
        logprobs = None
        if self._generation.settings.logprobs is not None:
            logprobs = (_chat_logprobs if self._generation.chat else _completion_logprobs)(tokens)
        choice = {"index": output, **own, "logprobs": logprobs, "finish_reason": reason}
        if reason is not None and checked is not None:
            one = checked[output // self._generation.num_samples]
            choice["explainft"] = check(one, self._texts[output], reason == "length")
        return choice

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._generation.prompt_tokens, sum(self._num_tokens)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def check(one: InferenceInput, text: str, cut: bool) -> dict[str, Any]:
    """Returns the answer that an output states, whether it is correct and how its steps check, where that is known."""
    prediction = Prediction(one, Output(text, cut))
    correct, steps = prediction.correct, prediction.check
    found: dict[str, Any] = {"answer": prediction.answer}
    return (
        found
        | ({} if correct is None else {"correct": correct})
        | ({} if steps is None else {"check": check_fields(steps)})
    )


def _completion_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [finite(token.logprob) for token in tokens],
        "top_logprobs": [{text: finite(value) for text, value in token.candidates} for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": finite(logprob), "bytes": list(text.encode("utf-8", "replace"))}

    content = [
        {**entry(token.text, token.logprob), "top_logprobs": [entry(*candidate) for candidate in token.candidates]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}
