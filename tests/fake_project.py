"""A client's project in which every part is a fake: its spec, its data, and the names of the plugins to block."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tunewright.discovery import entry_points
from tunewright.host import Host, hookimpl

FIRST_PARTY = tuple(point.name for point in entry_points("tunewright") if point.distribution == "tunewright")


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


def write_rows(folder: Path, name: str, rows: list[tuple[str, str]]) -> None:
    """A file of messages and their queues, as the fake spec reads them."""
    (folder / name).write_text("text,queue\n" + "".join(f'"{text}",{queue}\n' for text, queue in rows))


def host_with_ledger_gate() -> Host:
    """The fakes, and the gate on learnt questions beside them."""
    table = {"gate/no_contamination": "tunewright_basics.no_contamination:NoContamination"}
    return Host(blocked=FIRST_PARTY, extra={"gates": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


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
