"""SeqIO tasks over Explained-ListOps. `import tasks` registers all of them and opens nothing.

    explained_<config>_<style>               for training: splits train and validation
    explained_<config>_<style>_eval_<split>  for evaluation: validation, test, longer or larger_numbers
    explained_<config>_<style>_eval          the mixture of the style's evaluation tasks

each on T5's vocabulary, and again with the suffix _compact on the vocabulary that ships with the package. Configs are
those of explainft.listops.configs; styles are none, short, medium, long and the control shuffled, which is medium with
its steps in random order.

A config of another size, as `explainft data build --config listops30-1000000` makes it, is registered by a module of
the user's own (MIXTURE_OR_TASK_MODULE): `tasks.register("listops30-1000000")` adds explained_listops30_1000000_medium
and the others. `tasks.register_partly_explained` adds tasks in which only some examples are explained.

An evaluation task holds one split of the dataset, the one in its name, under both split names that T5X asks for:
"validation" (finetune.gin) and "test" (eval.gin). So every task of a mixture takes part in one seqio.Evaluator.
"""

import functools

import seqio

from explainft.data.dataset import require_config
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_listops
from explainft.listops import STYLES
from explainft.listops.configs import CONFIGS, EVAL_SPLITS
from tasks import preprocessors
from tasks.sources import ExplainedListopsSource
from tasks.vocabularies import COMPACT_VOCABULARY, T5

TASK_STYLES = (*STYLES, "shuffled")
TRAINING_SPLITS = {"train": "train", "validation": "validation"}
VOCABULARIES = {"": T5, "_compact": COMPACT_VOCABULARY}


def register(config: str) -> None:
    """Registers the tasks and mixtures of a config: a published one's name, or `<name>-<n>` for n training examples."""
    require_config(config)
    for style in TASK_STYLES:
        for suffix, vocabulary in VOCABULARIES.items():
            _register(config, style, suffix, vocabulary)


def register_partly_explained(config: str, style: str, percent: int) -> None:
    """Registers explained_<config>_<style>_<percent>_percent for training: the other examples have no explanation.

    The authors' released training file is such a mixture of about 2 percent. It is scored on the evaluation tasks of
    the style.
    """
    require_config(config)
    for suffix, vocabulary in VOCABULARIES.items():
        name = f"explained_{config.replace('-', '_')}_{style}_{percent}_percent{suffix}"
        _add_task(name, config, TRAINING_SPLITS, style, vocabulary, percent)


def _add_task(
    name: str, config: str, splits: dict[str, str], style: str, vocabulary: seqio.Vocabulary, percent: int = 100
) -> None:
    published = CONFIGS[config.partition("-")[0]]
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=ExplainedListopsSource(config, splits),  # pyright: ignore[reportArgumentType] as seqio's own sources
        preprocessors=[
            functools.partial(preprocessors.explain, style=style, percent=percent),
            preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            # Not append_eos_after_trim: a target that is cut off must not look complete.
            seqio.preprocessors.append_eos,
        ],
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=functools.partial(postprocess_listops, style=style, modulus=published.modulus),
        metric_fns=[metrics.score],
    )


def _register(config: str, style: str, suffix: str, vocabulary: seqio.Vocabulary) -> None:
    prefix = f"explained_{config.replace('-', '_')}_{style}"  # SeqIO's names have no hyphens
    _add_task(f"{prefix}{suffix}", config, TRAINING_SPLITS, style, vocabulary)
    eval_tasks = [f"{prefix}_eval_{split}{suffix}" for split in EVAL_SPLITS]
    for name, split in zip(eval_tasks, EVAL_SPLITS, strict=True):
        _add_task(name, config, {"validation": split, "test": split}, style, vocabulary)
    mixture = f"{prefix}_eval{suffix}"
    seqio.MixtureRegistry.remove(mixture)
    seqio.MixtureRegistry.add(mixture, eval_tasks, default_rate=1.0)


for _config in CONFIGS:
    register(_config)
