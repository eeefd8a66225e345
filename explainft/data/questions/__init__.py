"""Questions of the user's own: from a file of any supported layout to a TFDS-format dataset.

Lives here: `explainft data import`, the layouts that it reads, and what it refuses.
May not: import TensorFlow before the first record is written, or JAX at all.
"""
