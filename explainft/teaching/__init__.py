"""Explanations from a teacher: prompts, requests, answers, and what is kept of them.

Lives here: `explainft teach`, its teachers (an OpenAI-compatible server, stored outputs, a checkpoint), its journal.
May not: train, or store the text of a failed or cut answer as an explanation.
"""
