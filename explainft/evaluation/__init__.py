"""Evaluation: scores of outputs, metrics and prediction files.

Lives here: teacher-forced losses, task metrics, `eval` and `infer`.
May not: update parameters, or import the training package.
"""
