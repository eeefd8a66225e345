"""Sweeps: grids of runs and of pipelines, their cost and their results.

Lives here: `explainft sweep`, `explainft pipeline` and the format of result files.
May not: train inside its own process.
"""
