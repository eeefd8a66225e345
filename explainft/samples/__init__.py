"""Sample files: many outputs of each problem, one problem a line.

Lives here: the layout of the files, and the commands that write them: `sample` and `score`; examples for verifiers.
May not: count votes or draw, or import the training package.
"""
