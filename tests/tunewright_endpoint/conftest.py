"""A server of two fake models, and the engine that asks it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from endpoint_server import serving
from tiny import backend
from tunewright_endpoint import client
from tunewright_endpoint.engine import Endpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
import tunewright_fakes as fakes

sys.path.pop(0)  # left there, the fakes would be an installed plugin to every other test

VOTES = {"parcel": {"delivery": 1.0}, "lamp": {"repair": 1.0}, "money": {"refund": 2.0}}


def subject(votes=None):
    """A fake model: a base, or what votes make of it."""
    model = fakes.Model()
    model.table = votes
    return fakes.FakeSubject(model, "base" if votes is None else "digest", fakes.FakeTokenizer())


@pytest.fixture
def server(monkeypatch):
    """Serves `base` and `tuned`; nobody waits long between two tries."""
    monkeypatch.setattr(client, "PAUSE", 0.001)
    with serving(base=subject(), tuned=subject(VOTES)) as made:
        yield made


@pytest.fixture
def ask(server, tmp_path):
    """`ask(prompts="text")`: the tuned model as such an engine opens it; `of="base"`: the base."""
    source = fakes.FakeSource(fakes.KindOnly())
    source.fetch(source.pin(), tmp_path)
    loader = fakes.FakeLoader(fakes.KindOnly())

    def opened(of="tuned", **options):
        from tunewright.parts.engine import Served

        given = {"url": server.url, "model": "tuned", "base_model": "base", **options}
        engine = backend(Endpoint, **given)
        trained = tmp_path if of == "tuned" else None
        return engine.open(Served(tmp_path, loader, None, "fp32", None, trained))

    return opened
