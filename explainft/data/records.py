"""Turns candidate expressions into the dataset's records.

Pure functions: worker processes and Apache Beam call them, and the bytes are the same on any machine.
"""

from typing import Any

from tensorflow_datasets.proto import tf_example_pb2

from explainft.listops.configs import Config, candidates, digest
from explainft.listops.explain import STYLES, explain_applied
from explainft.listops.expression import Node, applications, depth, format

EXPLANATIONS = tuple(style for style in STYLES if style != "none")


def keyed_records(config: Config, stream: str, chunk: int) -> list[tuple[int, bytes]]:
    """Returns the 64-bit digest and the record of every candidate of a chunk."""
    examples = [example(config, tree) for tree in candidates(config, stream, chunk)]
    return [(digest(features["expression"]), serialize(features)) for features in examples]


def example(config: Config, tree: Node) -> dict[str, Any]:
    """Returns the features of one expression, nested as TFDS nests them."""
    applied = list(applications(tree, config.modulus))
    answer = applied[-1][2]
    expression = format(tree)
    return {
        "expression": expression,
        "answer": answer,
        "explanation": {style: explain_applied(applied, answer, style) for style in EXPLANATIONS},
        "length": len(expression.split()),
        "depth": depth(tree),
        "operators": " ".join([operator for operator, _, _ in applied]),
    }


def serialize(features: dict[str, Any]) -> bytes:
    """Returns the bytes of the tf.train.Example that TFDS would write, in a deterministic order of fields.

    TFDS's own serializer goes through numpy arrays and is several times slower.
    """
    flat = features | {f"explanation/{style}": text for style, text in features["explanation"].items()}
    del flat["explanation"]
    proto = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue] (created at import)
    for name, value in flat.items():
        if isinstance(value, int):
            proto.features.feature[name].int64_list.value.append(value)
        else:
            proto.features.feature[name].bytes_list.value.append(value.encode())
    return proto.SerializeToString(deterministic=True)
