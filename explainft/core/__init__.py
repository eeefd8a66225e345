"""Errors, files, processes, and setting up JAX and TensorFlow.

Lives here: what every other package may use and what contains nothing of T5 or of a problem.
May not: import anything else of explainft, or load JAX or TensorFlow when imported.
"""
