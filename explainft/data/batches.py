"""Packed batches as a pure function of (seed, step).

Examples are packed into rows once. Segment ids separate the examples of a row. Every epoch visits all rows in a new
order. Batch k holds rows k*B ... (k+1)*B-1 of that endless sequence, so one integer resumes a run.
"""

import dataclasses
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from explainft.core.errors import UserError, require_positive
from explainft.data.ragged import Ragged
from explainft.data.target_parts import loss_weights
from explainft.data.token_cache import TokenCache

PACK_BLOCK = 2**16  # examples whose lengths packing converts to Python integers at a time
WAITING = 32  # candidates of packing; more fill rows slightly better and take longer
ROW_END = 2.5  # a row with room for fewer examples of mean size is filled by the best fit

Batch = dict[str, Any]  # arrays


@dataclasses.dataclass(frozen=True)
class Packing:
    """The examples of each row: row r holds examples[starts[r]:starts[r + 1]], from left to right."""

    examples: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


class _Example(NamedTuple):
    size: float  # the fractions of a row's input and target positions, summed
    inputs: int
    targets: int
    number: int


NO_EXAMPLE = _Example(0.0, 0, 0, -1)
ROUNDING = 1e-9  # of sizes


def pack(
    input_lengths: np.ndarray, target_lengths: np.ndarray, row_inputs: int, row_targets: int, seed: int
) -> Packing:
    """Packs the examples, in random order, into one row after the other. Every example must fit an empty row.

    A row takes the first waiting example that fits. At its end it takes, of WAITING examples, the two that together
    leave the least room. The result is deterministic in the arguments.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(input_lengths))
    end = ROW_END * float(input_lengths.mean() / row_inputs + target_lengths.mean() / row_targets)
    coming = _examples(order, input_lengths, target_lengths, row_inputs, row_targets)
    waiting = list(islice(coming, WAITING))
    packed, starts = array("q"), array("q", [0])
    while waiting:
        inputs, targets = row_inputs, row_targets  # the row's free positions
        chosen = waiting[:1]
        while chosen:
            for example in chosen:
                waiting.remove(example)
                packed.append(example.number)
                inputs, targets = inputs - example.inputs, targets - example.targets
            fitting = [e for e in waiting if e.inputs <= inputs and e.targets <= targets]
            free = inputs / row_inputs + targets / row_targets
            chosen = fitting[:1] if free >= end else _best_fit(fitting, inputs, targets, free)
        waiting.extend(islice(coming, len(packed) - starts[-1]))
        starts.append(len(packed))
    return Packing(np.array(packed), np.array(starts))


def _examples(
    order: np.ndarray, input_lengths: np.ndarray, target_lengths: np.ndarray, row_inputs: int, row_targets: int
) -> Iterator[_Example]:
    for block in range(0, len(order), PACK_BLOCK):
        numbers = order[block : block + PACK_BLOCK]
        inputs, targets = input_lengths[numbers], target_lengths[numbers]
        sizes = inputs / row_inputs + targets / row_targets
        yield from map(_Example, sizes.tolist(), inputs.tolist(), targets.tolist(), numbers.tolist())


def _best_fit(fitting: list[_Example], inputs: int, targets: int, free: float) -> list[_Example]:
    """Returns the largest pair, or single, of the `fitting` examples that fit together. `free` is the room in sizes."""
    largest_first = [*sorted(fitting, reverse=True), NO_EXAMPLE]
    largest, best = 0.0, (NO_EXAMPLE, NO_EXAMPLE)
    small_enough = len(largest_first) - 1  # from here on, sizes leave room beside `one`
    for i, one in enumerate(largest_first):
        size, one_inputs, one_targets, _ = one
        if 2 * size <= largest:
            break  # all that follow are smaller
        room = free - size + ROUNDING
        while small_enough and largest_first[small_enough - 1][0] <= room:
            small_enough -= 1
        inputs_left, targets_left = inputs - one_inputs, targets - one_targets
        for other in largest_first[max(small_enough, i + 1) :]:
            if size + other[0] <= largest:
                break
            if other[1] <= inputs_left and other[2] <= targets_left:
                largest, best = size + other[0], (one, other)
                break
    return [example for example in best if example is not NO_EXAMPLE]


def one_per_row(n: int) -> Packing:
    """Returns the packing with example i alone in row i."""
    return Packing(np.arange(n), np.arange(n + 1))


class Batches:
    """`batches[step]` is the batch of train step `step`, the same on every machine and after every restart.

    `lengths` are TASK_FEATURE_LENGTHS: the row lengths of "inputs" and "targets". The features of a batch are int32,
    [B, S] for the encoder and [B, T] for the decoder: encoder_input_tokens, encoder_segment_ids, decoder_input_tokens,
    decoder_target_tokens, decoder_segment_ids; for a task with target parts also decoder_loss_weights, float32, see
    target_parts.loss_weights for `alpha`. `rows`, ascending, are the rows of each batch that this host feeds
    (None: all); no other row is read. Raises UserError where an example is longer than its row, or where there is no
    example.
    """

    def __init__(
        self,
        cache: TokenCache,
        lengths: dict[str, int],
        batch_size: int,
        seed: int,
        *,
        packed: bool,
        rows: np.ndarray | None = None,
        alpha: float | None = None,
    ):
        if not len(cache):
            raise UserError(f"split {cache.split!r} of {cache.task} has no examples; name a task that has some")
        check_lengths(cache, lengths)
        _check_alpha(cache, alpha)
        self.cache = cache
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.alpha = alpha
        self.rows = np.arange(batch_size) if rows is None else rows
        n_inputs, n_targets = cache.inputs.lengths, cache.targets.lengths
        self.packing = (
            pack(n_inputs, n_targets, lengths["inputs"], lengths["targets"], seed)
            if packed
            else one_per_row(len(cache))
        )
        self._epoch_order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, step: int) -> Batch:
        epochs, positions = np.divmod(step * self.batch_size + self.rows, len(self.packing))
        rows = np.array(
            [self._order(epoch)[position] for epoch, position in zip(epochs.tolist(), positions.tolist(), strict=True)]
        )
        return self.assemble(rows)

    def epoch_batches(self) -> int:
        """Returns the number of batches that hold every row once. `ordered` pads the last one with empty rows."""
        return -(-len(self.packing) // self.batch_size)

    def ordered(self, batch: int) -> Batch:
        """Returns batch number `batch` of one pass in order, for evaluation. The last one ends with empty rows."""
        rows = batch * self.batch_size + self.rows
        return self.assemble(rows[rows < len(self.packing)])

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch_order[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._epoch_order = (epoch, rng.permutation(len(self.packing)))
        return self._epoch_order[1]

    def assemble(self, rows: np.ndarray) -> Batch:
        """Returns the features of the rows. Where they are fewer than this host feeds, the last ones are empty."""
        counts = self.packing.starts[rows + 1] - self.packing.starts[rows]
        examples = self.packing.examples[_ranges(self.packing.starts[rows], counts)]
        row_of = np.repeat(np.arange(len(rows)), counts)
        segment_of = _ranges(np.ones_like(counts), counts)
        inputs, input_segments, *_ = self._lay_out(
            self.cache.inputs, examples, row_of, segment_of, self.lengths["inputs"]
        )
        targets, target_segments, first, flat = self._lay_out(
            self.cache.targets, examples, row_of, segment_of, self.lengths["targets"]
        )
        shifted = np.roll(targets, 1, axis=1)
        # Each segment starts with the padding token, not with the end of the one before it.
        shifted.reshape(-1)[first] = 0
        shifted[target_segments == 0] = 0
        batch: Batch = {
            "encoder_input_tokens": inputs,
            "encoder_segment_ids": input_segments,
            "decoder_input_tokens": shifted,
            "decoder_target_tokens": targets,
            "decoder_segment_ids": target_segments,
        }
        if self.cache.target_parts is not None:
            weights = np.zeros(targets.shape, np.float32)
            weights.reshape(-1)[flat] = loss_weights(*self.cache.target_parts.take(examples), self.alpha)
            batch["decoder_loss_weights"] = weights
        return batch

    def _lay_out(self, feature: Ragged, examples: np.ndarray, row_of: np.ndarray, segment_of: np.ndarray, width: int):
        """Returns a feature's tokens and segment ids [B, width], and the flat indices of first tokens and of all."""
        values, lengths = feature.take(examples)
        before = np.cumsum(lengths) - lengths  # tokens of all earlier examples
        row_first = np.maximum.accumulate(np.where(np.diff(row_of, prepend=-1) > 0, before, 0))
        first = row_of * width + (before - row_first)
        flat = _ranges(first, lengths)
        tokens = np.zeros(len(self.rows) * width, np.int32)
        segments = np.zeros(len(self.rows) * width, np.int32)
        tokens[flat] = values
        segments[flat] = np.repeat(segment_of, lengths)
        return tokens.reshape(-1, width), segments.reshape(-1, width), first, flat


class PairBatches(Batches):
    """Batches of pairs: examples 2i and 2i + 1 of the task, a correct and an incorrect solution of one problem.

    Its features have the shape [P, 2, S] or [P, 2, T], with one example in each row: no step splits a pair, whatever
    its microbatches and devices. `batch_size` counts examples, as elsewhere, and `rows` pairs. Raises UserError for
    examples that do not alternate between `labels`, token ids with EOS.
    """

    def __init__(
        self,
        cache: TokenCache,
        lengths: dict[str, int],
        batch_size: int,
        seed: int,
        *,
        labels: Sequence[Sequence[int]],
        rows: np.ndarray | None = None,
    ):
        super().__init__(cache, lengths, batch_size // 2, seed, packed=False, rows=rows)
        _check_pairs(cache, labels)
        self.packing = one_per_row(len(cache) // 2)
        self._examples = Batches(cache, lengths, batch_size, seed, packed=False, rows=np.arange(2 * len(self.rows)))

    def assemble(self, rows: np.ndarray) -> Batch:
        """Returns the features of the pairs. Where they are fewer than this host feeds, the last ones are empty."""
        examples = self._examples.assemble((2 * rows[:, None] + np.arange(2)).ravel())
        return {name: feature.reshape(-1, 2, feature.shape[-1]) for name, feature in examples.items()}


def _check_pairs(cache: TokenCache, labels: Sequence[Sequence[int]]) -> None:
    targets, lengths = cache.targets.take(np.arange(len(cache)))
    pair = np.concatenate([np.asarray(label) for label in labels])
    pairs = len(cache) // 2
    expected = np.tile([len(label) for label in labels], pairs)
    if len(cache) % 2 or not np.array_equal(lengths, expected) or not np.array_equal(targets, np.tile(pair, pairs)):
        raise UserError(
            f"{cache.task}/{cache.split} must hold pairs of a correct and an incorrect solution, with no prefix; "
            "make its dataset with --rows verifier and --prompt paper or short, or set VERIFIER_LOSS to 'cross_entropy'"
        )


def _check_alpha(cache: TokenCache, alpha: float | None) -> None:
    if alpha is None:
        return
    if not 0.0 <= alpha <= 1.0:
        raise UserError(f"ALPHA={alpha} must be from 0 to 1, the weight of the answer")
    if cache.target_parts is None:
        raise UserError(
            f"ALPHA={alpha} weighs answer against explanation, and {cache.task} does not mark them; set it to None"
        )


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenates arange(start, start + length) of each pair."""
    total = int(lengths.sum())
    offsets = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return offsets + np.arange(total)


def check_lengths(cache: TokenCache, lengths: dict[str, int]) -> None:
    """Raises UserError where an example exceeds the lengths, with the count and the length that holds all."""
    if not isinstance(lengths, dict) or set(lengths) != {"inputs", "targets"}:
        raise UserError(
            f"TASK_FEATURE_LENGTHS={lengths!r} must give the lengths of 'inputs' and 'targets', and no others"
        )
    for feature, ragged in (("inputs", cache.inputs), ("targets", cache.targets)):
        require_positive(**{f"TASK_FEATURE_LENGTHS of {feature}": lengths[feature]})
        of_examples = ragged.lengths
        too_long = int((of_examples > lengths[feature]).sum())
        if too_long:
            raise UserError(
                f"TASK_FEATURE_LENGTHS {feature}={lengths[feature]} is too short for {too_long:,} of {len(ragged):,} "
                f"examples of {cache.task}/{cache.split}; {int(of_examples.max())} holds them all"
            )
