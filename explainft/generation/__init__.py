"""Decoding: greedy, sampled and iterative.

Lives here: everything that turns parameters and input tokens into output tokens.
May not: score outputs, or write files.
"""
