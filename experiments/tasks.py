"""The tasks of the experiments that `import tasks` does not register."""

import functools

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from experiments import pointers
from explainft import metrics
from explainft.vocab import COMPACT
from tasks import preprocessors
from tasks.sources import ExplainedListopsSource

MARKED_VOCABULARY = seqio.SentencePieceVocabulary(COMPACT, extra_ids=pointers.MARKS)

for _percent in (2, 10, 50):
    tasks.register_partly_explained("tiny", "medium", _percent)
for _examples in (1000, 3000, 10000, 30000):
    tasks.register(f"tiny-{_examples}")

LEFT_OUT = {  # of the texts of the style medium
    "lists": r"(smallest|largest) number of \[[^\]]*\] is |add \[[^\]]*\], ",
    "sorting": r"sorted list, \[[^\]]*\], MEDIAN is ",
    "sum": r"sum is [0-9]+, ",
}


def _leave_out(dataset: tf.data.Dataset, part: str) -> tf.data.Dataset:
    return dataset.map(lambda row: {**row, "targets": tf.strings.regex_replace(row["targets"], LEFT_OUT[part], "")})


def _register_without(part: str) -> None:
    for name, splits in {
        f"explained_tiny_without_{part}_compact": tasks.TRAINING_SPLITS,
        f"explained_tiny_without_{part}_eval_validation_compact": {"validation": "validation", "test": "validation"},
        f"explained_tiny_without_{part}_eval_test_compact": {"validation": "test", "test": "test"},
    }.items():
        seqio.TaskRegistry.remove(name)
        seqio.TaskRegistry.add(
            name,
            source=ExplainedListopsSource("tiny", splits),  # pyright: ignore[reportArgumentType] as seqio's own sources
            preprocessors=[
                functools.partial(preprocessors.explain, style="medium"),
                functools.partial(_leave_out, part=part),
                preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos,
            ],
            output_features={key: seqio.Feature(tasks.COMPACT_VOCABULARY) for key in ("inputs", "targets")},
            postprocess_fn=functools.partial(metrics.postprocess, style="none"),
            metric_fns=[metrics.score],
        )


for _part in LEFT_OUT:
    _register_without(_part)


def _register_marked(name: str, config: str, splits: dict[str, str]) -> None:
    source = ExplainedListopsSource(config, splits)

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del shuffle_files, seed  # in the order of the data
        fields = {"inputs": tf.string, "targets": tf.string, "expression": tf.string, "answer": tf.int64}

        def rows():
            for row in tfds.as_numpy(source.get_dataset(split, shuffle=False)):
                inputs, targets = pointers.marked(row["expression"].decode())
                yield {"inputs": inputs, "targets": targets, "expression": row["expression"], "answer": row["answer"]}

        return tf.data.Dataset.from_generator(
            rows, output_signature={field: tf.TensorSpec((), dtype) for field, dtype in fields.items()}
        )

    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, splits=tuple(splits)),  # pyright: ignore[reportArgumentType]
        preprocessors=[preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), seqio.preprocessors.append_eos],
        output_features={key: seqio.Feature(MARKED_VOCABULARY, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=functools.partial(metrics.postprocess, style="none"),
        metric_fns=[metrics.score],
    )


_register_marked("explained_tiny_marked_compact", "tiny", tasks.TRAINING_SPLITS)
for _config in ("tiny", "tiny_25_96"):
    for _split in ("validation", "test"):
        _splits = {"validation": _split, "test": _split}
        _register_marked(f"explained_{_config}_marked_eval_{_split}_compact", _config, _splits)
