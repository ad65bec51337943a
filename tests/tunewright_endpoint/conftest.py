"""A server of two fake models, and the engine that asks it."""

from __future__ import annotations

import pytest

from endpoint_server import serving
from served_fakes import VOTES, fakes, subject
from tiny import backend
from tunewright_endpoint import client
from tunewright_endpoint.engine import Endpoint


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
