"""The engine over a vLLM with no model in it, and all that this one is told."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

from served_fakes import fakes
from tiny import backend
from tunewright.parts import Cap
from tunewright.parts.engine import Served
from tunewright_transformers.unquantized import NoQuantizer
from tunewright_vllm.engine import Vllm

ADAPTS, WHOLE = (SimpleNamespace(offers=lambda caps=caps: frozenset(caps)) for caps in ([Cap.ADAPTS], []))
"""Methods as the engine sees them: it asks what they make, and calls nothing of them."""


class StandIn:
    """The engine over the stand-in, which behaves as `how` says."""

    def __init__(self, environment, base, said, monkeypatch):
        self.environment, self.said, self.monkeypatch = environment, said, monkeypatch
        self.served = Served(base, fakes.FakeLoader(fakes.KindOnly()), backend(NoQuantizer), "fp32")

    def engine(self, how=None, options=None):
        self.monkeypatch.setenv("HOW", json.dumps(how or {}))
        self.monkeypatch.setenv("SAID", str(self.said))
        return backend(Vllm, **{"python": str(self.environment / "bin" / "python"), **(options or {})})

    @contextmanager
    def open(self, how=None, options=None, **changes):
        with self.engine(how, options).open(self.served._replace(**changes)) as subject:
            yield subject

    @contextmanager
    def open_several(self, adapters, how=None, options=None):
        with self.engine(how, options).open_several(self.served._replace(method=ADAPTS), adapters) as several:
            yield several

    @property
    def told(self):
        """All that the stand-in was told: what each was started with, and each request."""
        return [json.loads(line) for line in self.said.read_text().splitlines()] if self.said.is_file() else []

    @property
    def started(self):
        """What the last one was started with."""
        return [one for one in self.told if "arguments" in one][-1]

    @property
    def asked(self):
        """Every request for an answer."""
        return [one for one in self.told if one.get("path") == "/v1/completions"]

    def word(self, name):
        """What the last command says of one option."""
        words = self.started["arguments"]
        return words[words.index(name) + 1]
