"""Sampled problems of tests."""

import json

from explainft.samples.foreign import Fields
from explainft.samples.layouts import read_any
from explainft.voting.ballots import make_ballots

FIELDS = Fields("output", answer="label")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ballots_of(path, rows, problem="math", fields=FIELDS, score_kind="probability", **settings):
    """Returns the ballots of rows, through a file."""
    return make_ballots(read_any(write_lines(path, rows), problem, None, fields, **settings), score_kind)
