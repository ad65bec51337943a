"""Tiny models, and a vLLM with no model in it, for every test of this folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from vllm_work import StandIn

from served_fakes import fakes
from tiny import tiny_folder  # noqa: F401


@pytest.fixture
def environment(tmp_path):
    """What looks like an environment with vLLM in it; its interpreter runs the stand-in, whatever it is to run."""
    folder = tmp_path / "env"
    (folder / "lib/python3.11/site-packages/vllm-0.32.0.dist-info").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.parent.mkdir()
    stand_in = Path(__file__).parent / "stand_in.py"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def base(tmp_path):
    """A base of the fakes, which reads 512 tokens."""
    folder = tmp_path / "base"
    folder.mkdir()
    source = fakes.FakeSource(fakes.KindOnly())
    source.fetch(source.pin(), folder)
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    return folder


@pytest.fixture
def adapter(tmp_path):
    """`adapter("a", says=70)`: the folder of an adapter whose answers begin with that token."""

    def make(name, says, rank=4, **more):
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "says": says, **more}))
        return folder

    return make


@pytest.fixture
def stand_in(environment, base, tmp_path, monkeypatch):
    for name in ("VLLM_PLUGINS", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tunewright_vllm.engine._cuda", lambda: False)
    monkeypatch.setattr("tunewright_endpoint.client.PAUSE", 0.001)  # nobody waits long between two tries
    return StandIn(environment, base, tmp_path / "said.jsonl", monkeypatch)
