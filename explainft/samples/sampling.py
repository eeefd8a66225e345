"""Samples of many problems into a file: each problem once, whatever stops the process and how often.

A sample depends on the seed, the example id and its index alone. Batches are a function of the inputs and of how many
samples each has, so that a run that was stopped writes the same bytes as one that was not.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from explainft.checkpoints.weights import Weights
from explainft.core.atomic_files import STANDARD_OUTPUT, check_writable, open_output, refuse_unwritable
from explainft.core.errors import UserError, require_positive
from explainft.data.questions.examples import digest
from explainft.evaluation.infer import Prediction
from explainft.evaluation.loading import LoadedModel, load_model
from explainft.generation.batching import plan_batches
from explainft.generation.decoding import Sampled, sample_batches
from explainft.generation.generator import Output
from explainft.generation.quantization import DecodeConfig
from explainft.generation.sampling import SamplingConfig
from explainft.parallel import hosts, sharding
from explainft.samples.files import make_sample, read_samples, write_rows
from explainft.samples.inputs import Inputs, Part, SampledInput, check_ids
from explainft.samples.journal import Journal, Samples, locked

OUTPUT_FORMATS = ("samples", "infer")
# The settings of a line that no flag gives, by what they are of.
NO_FLAGS = {"dataset": ("problem", "form", "task", "max_length"), "checkpoint": ("step", "model")}


@dataclasses.dataclass(frozen=True)
class SampleRun:
    """What is sampled how often, and into which file. `output_format`: one of OUTPUT_FORMATS."""

    output: Path
    num_samples: int
    config: SamplingConfig
    decode_config: DecodeConfig
    batch_size: int = 256
    output_format: str = "samples"

    def __post_init__(self):
        require_positive(num_samples=self.num_samples, batch_size=self.batch_size)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Inputs of one part, by their places in it, that get the samples with these indices of up to `max_length`."""

    part: Part
    places: Sequence[int]
    indices: range
    max_length: int

    @property
    def size(self) -> int:
        return len(self.places) * len(self.indices)

    def is_like(self, other: "Batch") -> bool:
        """Returns whether both are decoded in the same way."""
        return self.part is other.part and (self.indices, self.max_length) == (other.indices, other.max_length)


def sample(weights: Weights, inputs: Inputs, run: SampleRun, stop: Callable[[], bool] = lambda: False) -> bool:
    """Writes `run.num_samples` samples of each input; returns whether all are there.

    Samples that the file has stay. `stop` is called after each batch: where it returns True, what is complete stays in
    the journal, and the same call resumes. Of several hosts all must call it. Raises UserError for settings other than
    those of the file.
    """
    if hosts.writes():
        _check_output(run)
    found: Any = inputs.read(weights)
    loaded = load_model(weights, run.decode_config, run.batch_size, mesh=sharding.make_mesh())
    parts = inputs.parts(found, loaded)
    every = [(part, one) for part in parts for one in part.inputs]
    check_ids([one for _, one in every])
    settings = {part.task: _settings(part, loaded, run) for part in parts}
    with locked(run.output) if _keeps_journal(run) else contextlib.nullcontext():
        earlier = _earlier_rows(run, every, settings)
        counts = hosts_agree([len(earlier[one.id]["samples"]) if one.id in earlier else 0 for _, one in every])
        new = _decode_missing(parts, counts, settings, loaded, run, stop)
        if new is None:
            return False
        if hosts.writes() and new:
            _write(run, every, settings, earlier, new)
        elif hosts.writes():
            print(f"{run.output} has {run.num_samples} samples of each problem: nothing to sample")
        if _keeps_journal(run):
            Journal(run.output).remove()
    return True


def _check_output(run: SampleRun) -> None:
    check_writable(run.output)
    if run.output_format == "infer" and run.output.is_file():
        raise UserError(
            f"{run.output} exists, and to a file of --output_format infer nothing can be added; give another --output"
        )


def hosts_agree(values: Any) -> Any:
    """Returns the first host's values on all hosts."""
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(values))).tolist()


def _keeps_journal(run: SampleRun) -> bool:
    return run.output != STANDARD_OUTPUT and hosts.writes()


def _settings(part: Part, loaded: LoadedModel, run: SampleRun) -> dict[str, Any]:
    """Returns what all samples of a part are made with, see `_sampling`."""
    target = part.inputs[0].target
    return {
        "problem": target.problem.name,
        "form": target.form,
        "task": part.task,
        "step": loaded.weights.step,
        "model": loaded.digest(),
        **dataclasses.asdict(run.config),
        "decode_dtype": run.decode_config.dtype,
    }


def _sampling(settings: Mapping[str | None, Mapping[str, Any]], part: Part, one: SampledInput) -> dict[str, Any]:
    """Returns what the samples of an input are made with, as its line has it."""
    return {**settings[part.task], "max_length": one.max_length}


def _earlier_rows(
    run: SampleRun, every: Sequence[tuple[Part, SampledInput]], settings: Mapping[str | None, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns the lines that the file has, by id. Raises UserError where they are not of this run."""
    if run.output_format != "samples" or not hosts.writes() or not run.output.is_file():
        return {}
    rows = {problem.id: dict(problem.row) for problem in read_samples(run.output)}
    for part, one in every:
        row = rows.get(one.id)
        if row is None:
            continue
        _check_settings(row["sampling"], _sampling(settings, part, one), run.output)
        if row["question"] != one.target.example["question"]:
            raise UserError(f"{run.output} has another question with id {one.id!r}; give another --output")
        if len(row["samples"]) > run.num_samples:
            raise UserError(
                f"{run.output} has {len(row['samples'])} samples of {one.id!r}, more than --num_samples "
                f"{run.num_samples}; give as many or more, or another --output"
            )
    if other := rows.keys() - {one.id for _, one in every}:
        raise UserError(
            f"{run.output} has samples of other examples, {len(other):,} with ids such as {min(other)!r}; "
            "give those too, or another --output"
        )
    return rows


def _check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) == value:
            continue
        differs = f"{name}={found.get(name)!r}, not {value!r}"
        for what, names in NO_FLAGS.items():
            if name in names:
                raise UserError(
                    f"{path} was sampled from another {what} ({differs}); give that one, or another --output"
                )
        raise UserError(f"{path} was sampled with {differs}; give the same, or another --output")


def _decode_missing(
    parts: Sequence[Part],
    counts: Sequence[int],
    settings: Mapping[str | None, Mapping[str, Any]],
    loaded: LoadedModel,
    run: SampleRun,
    stop: Callable[[], bool],
) -> dict[str, Samples] | None:
    """Returns the samples that are missing, by id; None where `stop` came first."""
    journal = Journal(run.output) if _keeps_journal(run) else None
    head = {
        "settings": {str(task): found for task, found in settings.items()},
        "num_samples": run.num_samples,
        "inputs_per_batch": _inputs_per_batch(run, loaded),
        "counts": counts,
    }
    if journal is not None:
        head["inputs_per_batch"] = _open_journal(journal, head)
    [inputs_per_batch] = hosts_agree([head["inputs_per_batch"]])
    batches = list(_plan(parts, counts, run.num_samples, inputs_per_batch))
    complete = _complete(journal, batches) if journal is not None else {}
    is_complete = hosts_agree([i in complete for i in range(len(batches))]) if batches else []
    total = sum(batch.size for batch in batches)
    with tqdm(total=total, desc="sampling", unit=" samples", disable=None, leave=False) as bar:
        bar.update(sum(batch.size for batch, known in zip(batches, is_complete, strict=True) if known))
        bar.initial = bar.n  # the rate is that of this process
        pending = [i for i, known in enumerate(is_complete) if not known]
        with contextlib.closing(_decode([batches[i] for i in pending], inputs_per_batch, run.config)) as decoded:
            for i, samples in zip(pending, decoded, strict=True):
                complete[i] = samples
                if journal is not None:
                    journal.add(i, samples)
                bar.update(batches[i].size)
                if i != pending[-1] and stop():
                    return _report_stop(total, len(complete), len(batches))
    return {id: samples for batch in complete.values() for id, samples in batch.items()}


def _report_stop(total: int, complete: int, batches: int) -> None:
    if hosts.writes():
        what = f"{complete:,} of {batches:,} batches are complete, of {total:,} samples"
        print(f"stopped: {what}; rerun the same command to resume", file=sys.stderr)


def _inputs_per_batch(run: SampleRun, loaded: LoadedModel) -> int:
    """Returns how many inputs are decoded at once: as many for each of several devices."""
    devices = sharding.data_parallelism(loaded.params)
    return -(-max(1, run.batch_size // run.num_samples) // devices) * devices


def _open_journal(journal: Journal, head: Mapping[str, Any]) -> int:
    """Begins a journal, or checks the one that is there; returns its number of inputs a batch."""
    found = journal.head()
    if found is None or (found["counts"] != head["counts"] and found["num_samples"] <= min(head["counts"])):
        journal.start(head)  # an earlier one is in the file already
        return head["inputs_per_batch"]
    for task, wanted in head["settings"].items():
        _check_settings(found["settings"].get(task, {}), wanted, journal.path)
    _check_settings(found, {"num_samples": head["num_samples"]}, journal.path)
    if found["counts"] != head["counts"]:
        raise UserError(f"{journal.path} is of other examples; give the same, or another --output")
    return found["inputs_per_batch"]


def _plan(parts: Sequence[Part], counts: Sequence[int], num_samples: int, inputs_per_batch: int) -> Iterator[Batch]:
    """Yields the batches: inputs of one part and length limit that have as many samples so far, by length."""
    start = 0
    for part in parts:
        have = counts[start : start + len(part.inputs)]
        start += len(part.inputs)
        kinds = [(count, one.max_length) for count, one in zip(have, part.inputs, strict=True)]
        for count, max_length in sorted({kind for kind in kinds if kind[0] < num_samples}):
            places = [i for i, kind in enumerate(kinds) if kind == (count, max_length)]
            for rows in plan_batches([part.inputs[i].tokens for i in places], inputs_per_batch):
                yield Batch(part, [places[row] for row in rows], range(count, num_samples), max_length)


def _complete(journal: Journal, batches: Sequence[Batch]) -> dict[int, dict[str, Samples]]:
    """Returns the batches that the journal has whole."""
    complete = {}
    for i, samples in journal.batches().items():
        ids = {batches[i].part.inputs[place].id for place in batches[i].places} if i < len(batches) else set()
        if not samples.keys() <= ids:
            raise UserError(f"{journal.path} is of other examples; give the same, or another --output")
        if samples.keys() == ids:
            complete[i] = samples
    return complete


def _decode(batches: Sequence[Batch], inputs_per_batch: int, config: SamplingConfig) -> Generator[dict[str, Samples]]:
    """Yields the samples of each batch by id, in order."""
    start = 0
    while start < len(batches):  # batches with one part, range of indices and length limit together
        first, end = batches[start], start
        while end < len(batches) and batches[end].is_like(first):
            end += 1
        part, generator = first.part, first.part.generator
        decoded = sample_batches(
            generator.model,
            generator.params,
            [one.tokens for one in part.inputs],
            [digest(one.id) for one in part.inputs],
            first.indices,
            first.max_length,
            [batch.places for batch in batches[start:end]],
            inputs_per_batch,
            config,
        )
        with contextlib.closing(decoded):
            for batch, found in zip(batches[start:end], decoded, strict=True):
                inputs = [part.inputs[i] for i in batch.places]
                yield {one.id: _samples(generator, one, samples) for one, samples in zip(inputs, found, strict=True)}
        start = end


def _samples(generator: Any, one: SampledInput, samples: Sequence[Sampled]) -> Samples:
    return [
        make_sample(
            one.target,
            generator.vocabulary.decode(sampled.ids),
            logprob=sampled.logprob,
            tokens=sampled.num_tokens,
            cut=sampled.cut,
        )
        for sampled in samples
    ]


def _write(
    run: SampleRun,
    every: Sequence[tuple[Part, SampledInput]],
    settings: Mapping[str | None, Mapping[str, Any]],
    earlier: Mapping[str, dict[str, Any]],
    new: Mapping[str, Samples],
) -> None:
    """Writes the file, in the order of the inputs."""
    rows = []
    for part, one in every:
        row = earlier.get(one.id) or {**one.fields(), "sampling": _sampling(settings, part, one), "samples": []}
        samples = [*row["samples"], *new.get(one.id, [])]
        if run.output_format == "infer":
            outputs = [Output(sample["text"], sample["finish_reason"] == "length") for sample in samples]
            rows += [Prediction(one.inference_input(), output).json() for output in outputs]
        else:
            rows.append({**row, "samples": samples})
    with refuse_unwritable(run.output), open_output(run.output) as file:
        file.writelines(write_rows(rows))
