"""Problems: what a question, an answer and an explanation are.

Lives here: reading answers from outputs, comparing answers by value, checking explanations, groups for metrics.
May not: read or write files, import JAX or TensorFlow, or raise on any text.
"""
