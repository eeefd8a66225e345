"""Runs and evaluations for the tests of a transfer matrix."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from explainft.checkpoints import integrity
from explainft.checkpoints.orbax_manager import DIRECTORY, open_manager
from explainft.checkpoints.run_checkpoint import open_run
from explainft.evaluation.infer import PRETRAINED

NOISE = 0.02
EVALUATIONS = {
    "in domain": {"test": "explained_tiny_medium_eval_test_compact"},
    "other lengths": {"longer": "explained_tiny_medium_eval_longer_compact"},
    "other styles": {
        "answer alone": "explained_tiny_none_eval_test_compact",
        "short": "explained_tiny_short_eval_test_compact",
    },
}


def perturbed(directory: Path) -> Path:
    """Writes a run like the one that ships with the package, with noise in its weights."""
    weights = open_run(PRETRAINED)
    leaves, tree = jax.tree.flatten(weights.tree())
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noisy = [leaf + NOISE * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, noisy)
    directory.mkdir(parents=True)
    (directory / "vocabulary.model").write_bytes((PRETRAINED / "vocabulary.model").read_bytes())
    manager = open_manager(directory / DIRECTORY, create=True)
    sums = {name: found.checksum for name, found in integrity.summaries(params).items()}
    meta = integrity.with_digest({**weights.meta, "checksums": {"params": sums}})
    items = ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta))
    manager.save(weights.step or 0, args=items)
    manager.wait_until_finished()
    manager.close()
    return directory
