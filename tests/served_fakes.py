"""Two fake models for a server to serve: a base, and what votes make of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fakes"))
import tunewright_fakes as fakes

sys.path.pop(0)  # left there, the fakes would be an installed plugin to every other test

VOTES = {"parcel": {"delivery": 1.0}, "lamp": {"repair": 1.0}, "money": {"refund": 2.0}}


def subject(votes=None):
    """A fake model: a base, or what votes make of it."""
    model = fakes.Model()
    model.table = votes
    return fakes.FakeSubject(model, "base" if votes is None else "digest", fakes.FakeTokenizer())
