"""A checkpoint of any known format as a teacher, in this process."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explainft.checkpoints import convert
from explainft.core.errors import UserError
from explainft.data.questions.examples import digest
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.loading import load_model
from explainft.generation.batching import plan_batches
from explainft.generation.decoding import sample_batches
from explainft.generation.generator import Generator
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.generation.sampling import SamplingConfig
from explainft.teaching.client import Receive
from explainft.teaching.requests import COMPLETE, CUT, Answer, Request


class CheckpointTeacher:
    """Decodes in batches: greedily at temperature 0, else as `explainft sample` does.

    A sample depends on the seed, the question's id and its index alone. `name` stands for the parameters and the
    kernels' dtype.
    """

    journaled = True

    def __init__(self, path: str, step: int | str | None, batch_size: int, decode_dtype: str):
        weights = convert.open_weights(path, step)
        loaded = load_model(weights, DecodeConfig(decode_dtype), batch_size)
        if weights.meta:
            self._generator = loaded.run_generator()
        else:
            params = decode_parameters(loaded.model.config, loaded.params, decode_dtype)
            self._generator = Generator(loaded.model, params, weights.tokenizer(), batch_size)
        if self._generator.iterative is not None:
            raise UserError(f"{path} decodes in several rounds; give a run whose task is decoded in one")
        self.faults: Counter[str] = Counter()
        self.name = f"{Path(path).name}@{weights.step} {loaded.digest()} {decode_dtype}"

    def ask(self, requests: Sequence[Request], receive: Receive) -> None:
        """Calls `receive` with the answers of each batch."""
        vocabulary = self._generator.vocabulary
        for index in sorted({request.index for request in requests}):
            alike = [request for request in requests if request.index == index]
            inputs = [[*vocabulary.encode(request.prompt), EOS_ID] for request in alike]
            batches = plan_batches(inputs, self._generator.batch_size)
            decode = self._greedy if alike[0].settings.temperature == 0 else self._sample
            with contextlib.closing(decode(alike, inputs, batches)) as decoded:
                for places, outputs in zip(batches, decoded, strict=True):
                    for place, (text, cut) in zip(places, outputs, strict=True):
                        self._receive(alike[place], text.strip(), cut, len(inputs[place]), receive)

    def _receive(self, request: Request, text: str, cut: bool, prompt_tokens: int, receive: Receive) -> None:
        if cut:
            self.faults["finish reason length"] += 1
        number = f"seed {request.settings.seed} index {request.index}"
        limit = request.settings.max_tokens
        written = limit if cut else len(self._generator.vocabulary.encode(text)) + 1  # EOS
        answer = Answer(None if cut else text, CUT if cut else COMPLETE, limit, number, prompt_tokens, written)
        receive(request, answer)

    def _greedy(self, requests: Sequence[Request], inputs: Sequence[list[int]], batches: Sequence[list[int]]) -> Any:
        for places in batches:
            outputs = self._generator.generate([inputs[i] for i in places], requests[0].settings.max_tokens)
            yield [(output.text, output.cut) for output in outputs]

    def _sample(self, requests: Sequence[Request], inputs: Sequence[list[int]], batches: Sequence[list[int]]) -> Any:
        one, index = requests[0].settings, requests[0].index
        decoded = sample_batches(
            self._generator.model,
            self._generator.params,
            inputs,
            [digest(request.question.id) for request in requests],
            range(index, index + 1),
            one.max_tokens,
            batches,
            self._generator.batch_size,
            SamplingConfig(one.temperature, 0, one.top_p, one.seed or 0),
        )
        with contextlib.closing(decoded):
            for found in decoded:
                yield [(self._generator.vocabulary.decode(sample.ids), sample.cut) for [sample] in found]
