"""What TensorFlow writes to standard error."""

import subprocess
import sys

import pytest

from tests.helpers.datasets import environment

PROGRAM = """
import os
from explainft.core import tensorflow_setup
tensorflow_setup.import_tensorflow()
import logging
import tensorflow as tf
list(tf.data.Dataset.range(10).cache().take(3))  # a native warning
logging.getLogger("absl").warning("a warning of TensorFlow Datasets")
print(os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
"""


@pytest.mark.parametrize("level", ["1", "0"])
def test_warnings_are_silent_unless_the_user_asks(level):
    """Importing JAX sets level 1."""
    settings = environment() | {"TF_CPP_MIN_LOG_LEVEL": level}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, check=True)
    assert run.stdout == f"{level}\n"
    assert ("cache_dataset_ops" in run.stderr) == (level == "0")
    assert "TensorFlow Datasets" not in run.stderr and (run.stderr == "") == (level == "1")
