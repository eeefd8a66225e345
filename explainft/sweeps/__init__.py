"""Sweeps: grids of runs, their cost and their results.

Lives here: `explainft sweep` and the format of result files.
May not: train inside its own process.
"""
