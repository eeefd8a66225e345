"""Short runs, what disturbs them, and whether they end as an undisturbed one does."""

import functools

from explainft.checkpoints.checkpointer import CheckpointConfig
from explainft.evaluation.evaluate import EvaluationConfig
from explainft.training import optimizers
from explainft.training.config import DatasetConfig
from tests.survival import suite, victim

EVALUATION = EvaluationConfig(victim.EVAL_TASK, period=6, eval_steps=2, batch_size=4, num_examples=8)
RATE = functools.partial(optimizers.learning_rate, "constant", 1e-2, 2)


def run(folder, data_dir, **changes):
    settings = dict(
        dataset=DatasetConfig("explained_tiny_short_compact", {"inputs": 32, "targets": 48}, batch_size=8, seed=1),
        evaluation=EVALUATION,
        checkpoints=CheckpointConfig(period=4, keep=None),
        schedule=RATE,
        train_steps=10,
    )
    return victim.run(folder, data_dir, **{**settings, **changes})


def assert_same_end(folder, undisturbed, but=()):
    differing = suite.differences(suite.result(folder), suite.result(undisturbed))
    assert [name for name in differing if name not in but] == []


def at_call(patch, owner, name, n, action):
    """Does something before the n-th call of a function, and returns how often it was called, as a list."""
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        calls.append(name)
        if len(calls) == n:
            action()
        return function(*args, **kwargs)

    patch.setattr(owner, name, wrapped)
    return calls


def assert_resumes_to_same_end(folder, data_dir, undisturbed):
    run(folder, data_dir)
    assert_same_end(folder, undisturbed, but=["metrics"])  # a stop or an error has lines of its own there
