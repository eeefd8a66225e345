"""Examples: the TFDS datasets, token caches, vocabularies, packing and batches.

Lives here: everything between examples on disk and arrays of token ids.
May not: import the model or anything above it; TensorFlow is imported inside functions alone.
"""
