"""Checkpoints: saving, verifying, restoring and converting.

Lives here: the formats of explainft, T5X and Hugging Face, and what they have in common.
May not: train, evaluate or decode.
"""
