"""A spec of a gate over many kinds of scores, for tests of what `validate` says of the gate."""

from __future__ import annotations

from pathlib import Path

from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import Problem

SPEC = """\
apiVersion: tunewright/v1
name: desk
model: {source: {kind: pypi}}
adapter: {kind: lora, r: 8}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: test.csv}]
trainer: {kind: sft}
evals:
  - {kind: heldout, metrics: [exact_match, over_refusal]}
  - {kind: choice}
  - {kind: perplexity}
  - {kind: suite, suite: support, name: desk-suite}
baselines: [{few_shot: 1}]
exports: [{kind: adapter}]
gates:
  - GATE
"""


def problems_of(gate: str, folder: Path, host: Host) -> list[Problem]:
    """What `validate` says of the spec with this gate, written into `folder` with its rows."""
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text(f"text,queue\n{name} is broken,returns\nwhy two charges in {name},billing\n")
    (folder / "desk.yaml").write_text(SPEC.replace("GATE", gate))
    return Project.from_spec(folder / "desk.yaml", host=host).validate()
