"""The parts of a target, and the loss weights of its tokens.

A task whose examples have the feature `target_parts`, one number for each target token, says what each token belongs
to: the context, which carries no loss, the answer or the explanation.
"""

import numpy as np

TARGET_PARTS = "target_parts"
CONTEXT, ANSWER, EXPLANATION = range(3)


def loss_weights(parts: np.ndarray, lengths: np.ndarray, alpha: float | None) -> np.ndarray:
    """Returns the loss weight of each target token, float32, of examples whose concatenated `parts` have `lengths`.

    With `alpha`, the weights of an example's answer sum to alpha and those of its explanation to 1 - alpha, whatever
    their lengths: the loss is alpha times the mean over the answer plus 1 - alpha times the mean over the explanation
    (Hsieh et al. 2023, equation 3; Li et al. 2022). Without, each token of the two weighs 1.
    """
    if alpha is None:
        return (parts != CONTEXT).astype(np.float32)
    example_of = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(3 * example_of + parts, minlength=3 * len(lengths)).reshape(-1, 3)
    totals = np.array([0.0, alpha, 1.0 - alpha])
    return (totals / np.maximum(counts, 1))[example_of, parts].astype(np.float32)


def prefix_lengths(parts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns how many context tokens each example's target begins with."""
    starts = np.cumsum(lengths) - lengths
    other = np.cumsum(parts != CONTEXT)  # tokens of answers and explanations up to each token
    before = np.concatenate([[0], other])[starts]
    in_prefix = other == np.repeat(before, lengths)
    return np.bincount(np.repeat(np.arange(len(lengths)), lengths)[in_prefix], minlength=len(lengths))
