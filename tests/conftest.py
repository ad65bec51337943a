"""What all tests share: pinned threads, a cache of their own, and the fakes on the path as an installed plugin."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FAKES = str(Path(__file__).parent / "fakes")
# before any library is imported: results depend on the number of threads, and no test may reach a hub
os.environ.update(
    {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
)

FIRST_PARTY = ("basics", "files", "transformers", "bitsandbytes", "peft", "trl")


@pytest.fixture
def fakes(monkeypatch):
    """The fakes' entry point is found, here and in child processes; first-party plugins are the caller's to block."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([FAKES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))


@pytest.fixture
def fake_host(fakes):
    """A host in which every first-party plugin is blocked and the fakes fill every part."""
    from tunewright.host import Host

    return Host(blocked=FIRST_PARTY)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of base weights."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fake_spec(tmp_path, cache):
    """A folder with a spec in which every part is a fake, and its data."""
    return write_fake_spec(tmp_path / "client")


def write_fake_spec(folder: Path) -> Path:
    """Write the fake spec and its data; returns the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("where is my parcel", "delivery"), ("my parcel is late", "delivery"), ("the lamp is broken", "repair")]
    rows += [("please repair the pump", "repair"), ("I want my money back", "refund"), ("refund my order", "refund")]
    test = [("the parcel never came", "delivery"), ("the pump is broken", "repair"), ("give me my money", "refund")]
    for name, found in (("train.csv", rows), ("test.csv", test)):
        (folder / name).write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in found))
    spec = folder / "client.yaml"
    spec.write_text(FAKE_SPEC)
    return spec


FAKE_SPEC = """\
apiVersion: tunewright/v1
name: acme
model: {source: {kind: fake}, loader: {kind: fake}}
quantization: {kind: fake}
adapter: {kind: fake}
data:
  format: {kind: fake, system: Route the message.}
  train: [{kind: fake, path: train.csv}]
  test: [{kind: fake, path: test.csv}]
trainer: {kind: fake, learning_rate: 0.5}
evals: [{kind: fake}]
gates: [{kind: fake, metric: fake.right, at_least: 0.5}]
seed: 7
"""

sys.path.insert(0, str(Path(__file__).parent))
