"""Votes over the samples of a problem, re-ranking by a verifier's scores, and calibration of the scores.

Lives here: clusters, estimators and their intervals, as numbers.
May not: import JAX or TensorFlow, or make charts.
"""
