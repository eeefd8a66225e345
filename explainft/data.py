"""Packed batches as a pure function of (seed, step).

Examples are packed into rows once: several share a row, told apart by segment ids. Every epoch then visits all rows in
an order of its own. Batch k is rows k*B ... (k+1)*B-1 of that endless sequence, so a resumed run needs one integer.
"""

import dataclasses

import numpy as np

from explainft.errors import UserError, require_positive
from explainft.token_cache import Ragged, TokenCache

OPEN_ROWS = 64  # how many unfinished rows packing considers at a time: more fill a little better and take longer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Packing:
    """Which examples stand in which row. Row r holds examples[starts[r]:starts[r + 1]], from left to right."""

    examples: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


def pack(
    input_lengths: np.ndarray, target_lengths: np.ndarray, row_inputs: int, row_targets: int, seed: int
) -> Packing:
    """Puts each example, in random order, into the fullest of the open rows that can still hold both its features.

    Deterministic in its arguments. Every example must fit an empty row.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(input_lengths))
    # Free places of the open rows, and what they hold so far.
    free_inputs = np.full(OPEN_ROWS, row_inputs)
    free_targets = np.full(OPEN_ROWS, row_targets)
    rows: list[list[int]] = [[] for _ in range(OPEN_ROWS)]
    closed: list[list[int]] = []
    for i in order.tolist():
        n_inputs, n_targets = input_lengths[i], target_lengths[i]
        slack = np.minimum(free_inputs - n_inputs, free_targets - n_targets)
        room = free_inputs / row_inputs + free_targets / row_targets
        room[slack < 0] = np.inf
        r = int(np.argmin(room))
        if slack[r] < 0:
            r = int(np.argmin(free_inputs / row_inputs + free_targets / row_targets))
            closed.append(rows[r])
            rows[r], free_inputs[r], free_targets[r] = [], row_inputs, row_targets
        rows[r].append(i)
        free_inputs[r] -= n_inputs
        free_targets[r] -= n_targets
    closed += [row for row in rows if row]
    starts = np.cumsum([0, *map(len, closed)])
    return Packing(np.array([i for row in closed for i in row], np.int64), starts)


def one_to_a_row(n: int) -> Packing:
    """No packing: example i alone in row i."""
    return Packing(np.arange(n), np.arange(n + 1))


class Batches:
    """`batches[step]` is the batch of update `step`, the same on every machine and after every restart.

    `lengths` are TASK_FEATURE_LENGTHS: the row lengths of "inputs" and "targets". Features of a batch, int32 [B, S] for
    the encoder and [B, T] for the decoder: encoder_input_tokens, encoder_segment_ids, decoder_input_tokens,
    decoder_target_tokens, decoder_segment_ids. Raises UserError where an example is longer than its row.
    """

    def __init__(
        self,
        cache: TokenCache,
        lengths: dict[str, int],
        batch_size: int,
        seed: int,
        *,
        packed: bool,
    ):
        check_lengths(cache, lengths)
        self.cache = cache
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        n_inputs, n_targets = cache.inputs.lengths, cache.targets.lengths
        self.packing = (
            pack(n_inputs, n_targets, lengths["inputs"], lengths["targets"], seed)
            if packed
            else one_to_a_row(len(cache))
        )
        self._epoch_order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, step: int) -> Batch:
        first = step * self.batch_size
        epochs, places = np.divmod(np.arange(first, first + self.batch_size), len(self.packing))
        rows = np.array(
            [self._order(epoch)[place] for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)]
        )
        return self.assemble(rows)

    def epoch_batches(self) -> int:
        """How many batches hold every row once; the last one is filled up with empty rows by `ordered`."""
        return -(-len(self.packing) // self.batch_size)

    def ordered(self, batch: int) -> Batch:
        """Batch `batch` of one pass in order, for evaluation: the last one ends with empty rows."""
        rows = np.arange(batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.packing)))
        return self.assemble(rows)

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch_order[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._epoch_order = (epoch, rng.permutation(len(self.packing)))
        return self._epoch_order[1]

    def assemble(self, rows: np.ndarray) -> Batch:
        """The rows' tokens; fewer rows than the batch size leave the rest empty."""
        counts = self.packing.starts[rows + 1] - self.packing.starts[rows]
        examples = self.packing.examples[_ranges(self.packing.starts[rows], counts)]
        row_of = np.repeat(np.arange(len(rows)), counts)
        segment_of = _ranges(np.ones_like(counts), counts)
        inputs, input_segments, _ = self._place(self.cache.inputs, examples, row_of, segment_of, self.lengths["inputs"])
        targets, target_segments, first = self._place(
            self.cache.targets, examples, row_of, segment_of, self.lengths["targets"]
        )
        shifted = np.roll(targets, 1, axis=1)
        shifted.reshape(-1)[first] = 0  # each segment begins with the padding token, not with its neighbour's end
        shifted[target_segments == 0] = 0
        return {
            "encoder_input_tokens": inputs,
            "encoder_segment_ids": input_segments,
            "decoder_input_tokens": shifted,
            "decoder_target_tokens": targets,
            "decoder_segment_ids": target_segments,
        }

    def _place(self, feature: Ragged, examples: np.ndarray, row_of: np.ndarray, segment_of: np.ndarray, width: int):
        """Tokens and segment ids [B, width] of one feature, and the flat position of each segment's first token."""
        lengths = feature.lengths[examples]
        before = np.cumsum(lengths) - lengths  # tokens of all earlier examples
        row_first = np.maximum.accumulate(np.where(np.diff(row_of, prepend=-1) > 0, before, 0))
        first = row_of * width + (before - row_first)
        flat = _ranges(first, lengths)
        tokens = np.zeros(self.batch_size * width, np.int32)
        segments = np.zeros(self.batch_size * width, np.int32)
        tokens[flat] = feature.tokens[_ranges(feature.starts[examples], lengths)]
        segments[flat] = np.repeat(segment_of, lengths)
        return tokens.reshape(-1, width), segments.reshape(-1, width), first


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """arange(start, start + length) of each pair, one after the other."""
    total = int(lengths.sum())
    offsets = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return offsets + np.arange(total)


def check_lengths(cache: TokenCache, lengths: dict[str, int]) -> None:
    """Refuses lengths that an example exceeds, with the count and the length that holds all."""
    if not isinstance(lengths, dict) or set(lengths) != {"inputs", "targets"}:
        raise UserError(
            f"TASK_FEATURE_LENGTHS={lengths!r} must give the lengths of 'inputs' and 'targets', and no others"
        )
    for feature, ragged in (("inputs", cache.inputs), ("targets", cache.targets)):
        require_positive(**{f"TASK_FEATURE_LENGTHS of {feature}": lengths[feature]})
        too_long = int((ragged.lengths > lengths[feature]).sum())
        if too_long:
            raise UserError(
                f"TASK_FEATURE_LENGTHS {feature}={lengths[feature]} is too short for {too_long:,} of {len(ragged):,} "
                f"examples of {cache.task}/{cache.split}; {int(ragged.lengths.max())} holds them all"
            )
