"""Evaluation tasks whose answers are ranked by likelihood instead of decoded."""

import seqio

from explainft.data import task_registry

RANKED = "_ranked"  # ends the name


def add_ranked(task: str) -> None:
    """Registers `<task>_ranked`: each example is answered by that of its own choices which has the highest likelihood.

    A question without choices is answered by yes or no. The task's targets are answers alone. What the built-in engine
    does with it: explainft.generation.label_choice; another engine decodes it as it decodes `task`.
    """
    name = task + RANKED
    task_registry.register_labels(name, None)
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add_provider(name, seqio.TaskRegistry.get(task).replace(name=name))
