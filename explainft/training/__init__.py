"""Training: the loop, the train step, optimizers, preemption and metrics files.

Lives here: what changes parameters and what a run's directory holds.
May not: be imported by evaluation, checkpoints, model or data.
"""
