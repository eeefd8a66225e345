"""Synthetic problems with an instruction before each input, so that one model learns all of them.

Lives here: the rows of ListOps forms, modular arithmetic, sorting, copying and span corruption, made from seeds.
May not: read or write files, or import JAX, TensorFlow or SeqIO. `tasks.base` registers the tasks.
"""
