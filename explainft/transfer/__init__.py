"""Transfer: every run on every evaluation, and what fine-tuning changed beside its own task.

Lives here: `explainft transfer`, its cells on disk, differences from the starting checkpoint, and its page.
May not: train, or decode in the process that plans the cells.
"""
