"""From a checkpoint, a decode configuration and a task to a generator: one path for `eval` and `infer`."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from explainft.checkpoints import integrity
from explainft.checkpoints.weights import Weights, check_parameters, read_parameters
from explainft.core.errors import UserError
from explainft.data import token_cache
from explainft.data.task_registry import find_iterative
from explainft.data.token_cache import TokenCache
from explainft.generation.generator import Generator
from explainft.generation.label_choice import LabelChooser, predictor
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.model.config import T5Config
from explainft.model.t5 import T5
from explainft.parallel import hosts, sharding


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A checkpoint whose parameters are on the devices, and how it decodes."""

    weights: Weights
    model: T5
    params: Any
    decode_config: DecodeConfig
    batch_size: int

    def digest(self) -> str:
        """Returns 16 hex digits that stand for the parameters, whatever the format of their checkpoint."""
        checksums = (self.weights.meta.get("checksums") or {}).get("params")
        if checksums is None:
            checksums = {name: found.checksum for name, found in integrity.summaries(self.params).items()}
        return _digest(checksums)

    def task_generator(self, cache: TokenCache) -> Generator | LabelChooser:
        """Returns what predicts the outputs of the task of the cache."""
        params = self.decode_config.parameters_for(self.model.config, self.params, cache, self.weights.meta)
        return predictor(self.model, params, cache, self.batch_size)

    def run_generator(self) -> Generator:
        """Returns what decodes any inputs as the checkpoint's own task does; only of a run of explainft."""
        meta = self.weights.meta
        params = decode_parameters(self.model.config, self.params, self.decode_config.dtype, meta["output_ids"])
        iterative = find_iterative(**meta["next_input"]) if meta["next_input"] else None
        return Generator(self.model, params, self.weights.tokenizer(), self.batch_size, iterative)


def weights_digest(weights: Weights) -> str:
    """Returns the LoadedModel.digest of a checkpoint, which is read, an array at a time, where it has no checksums."""
    checksums = (weights.meta.get("checksums") or {}).get("params")
    if checksums is None:
        checksums = {name: integrity.checksum(weights.read(name).astype(np.float32)) for name in weights.parameters}
    return _digest(checksums)


def _digest(checksums: Mapping[str, int]) -> str:
    return blake2b(json.dumps(checksums, sort_keys=True).encode()).hexdigest()[:16]


def load_model(
    weights: Weights,
    decode_config: DecodeConfig,
    batch_size: int,
    model: T5 | None = None,
    mesh: Any = None,
) -> LoadedModel:
    """Places a checkpoint's parameters on the mesh (None: the first device), one at a time.

    `model` is that of the recipe (None: the checkpoint's own). Raises UserError where the parameters do not fit it.
    """
    model = model or T5(weights.architecture())
    check_parameters(weights, model.config)
    if mesh is None:
        return LoadedModel(weights, model, weights.tree(), decode_config, batch_size)
    sharding.check_model(model.config, mesh)
    params = read_parameters(weights, sharding.abstract_parameters(model.config, mesh))
    return LoadedModel(weights, model, params, decode_config, batch_size)


def load_evaluation_tasks(
    mixture_or_task: str,
    module: str,
    seqio_split: str,
    data_dir: str | None,
    config: T5Config,
    weights: Weights,
    vocabulary_file: str | None = None,
) -> list[TokenCache]:
    """Returns a task, or the tasks of a mixture. Raises UserError where one cannot be scored or decoded.

    `vocabulary_file` is a SentencePiece model in place of the tasks' own.
    """
    names = token_cache.task_names(mixture_or_task, module, data_dir)
    caches = [token_cache.load(name, seqio_split, module, data_dir, vocabulary_file=vocabulary_file) for name in names]
    for cache in caches:
        for line in cache.left_out() if hosts.writes() else ():
            print(line, file=sys.stderr)
        cache.require_texts()
        check_vocabulary(config, cache, weights)
    return caches


def own_vocabulary(weights: Weights) -> str | None:
    """Returns the vocabulary of a run that was trained on another one than its task's; None for any other run."""
    return str(weights.vocabulary) if weights.meta.get("own_vocabulary") else None


def check_vocabulary(config: T5Config, cache: TokenCache, weights: Weights | None = None) -> None:
    """Raises UserError where a task's vocabulary is larger than the model's, or not the one of the checkpoint."""
    if cache.vocabulary.size > config.vocab_size:
        raise UserError(
            f"the model's vocab_size={config.vocab_size} is smaller than the {cache.vocabulary.size} tokens "
            f"of {cache.task}'s vocabulary; choose the gin/models file that goes with the task"
        )
    if weights is not None and weights.vocabulary is not None:
        difference = cache.vocabulary.difference(weights.tokenizer())
        if difference:
            raise UserError(
                f"{cache.task} has another vocabulary than {weights.origin}: {difference}; name a task of the same one"
            )
