"""What each training of a run learnt and how it went, in their order, from their steps' outputs: plain data.

Card, manifest and report take it from here, so that none of them tells of the last stage alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.pipeline.tasks.prepare import FACTS
from tunewright.pipeline.tasks.train import OUTCOME
from tunewright.store.publish import Artifact

COUNTED = ("rows", "tokens", "supervised")
"""What is counted of the rows of a training."""
DESCRIBED = ("lengths", "classes")
"""What `data show` prints of them too; None of each where they were prepared by an earlier version."""
OF_ROWS = ("sources", *DESCRIBED)
"""What each training of several has of its own."""


def trainings(inputs: Mapping[str, Artifact], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every training; `name` is empty for the only one. `inputs` has `prepare` and `train` of each, by its name."""
    return [_told(one, _of(inputs, "prepare", one), _of(inputs, "train", one)) for one in about["trainings"]]


def parent(inputs: Mapping[str, Artifact], about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the first training went on from, saved by another run: the later ones go on from the one before."""
    found: dict[str, Any] | None = _outcome(inputs, about["trainings"][0])["parent"]
    return found


def totals(told: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Rows, tokens and learnt tokens of all trainings: what two of them learn counts twice."""
    return {name: sum(one[name] for one in told) for name in COUNTED}


def _told(one: Mapping[str, Any], prepared: Artifact, trained: Artifact) -> dict[str, Any]:
    rows, outcome = prepared.json(FACTS), trained.json(OUTCOME)
    return {
        "name": one["name"],
        "trainer": one["kind"],
        **{name: rows[name] for name in (*COUNTED, "sources", "mask")},
        **{name: rows.get(name) for name in DESCRIBED},
        "validation_rows": sum(source["rows"] for source in rows["validation"]),
        **{name: outcome[name] for name in ("steps", "losses", "validation", "best_step", "substituted")},
        "memory": trained.manifest["notes"].get("memory", ()),  # of an earlier version, none
    }


def _outcome(inputs: Mapping[str, Artifact], one: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _of(inputs, "train", one).json(OUTCOME)
    return found


def _of(inputs: Mapping[str, Artifact], step: str, one: Mapping[str, Any]) -> Artifact:
    return inputs[f"{step}-{one['name']}" if one["name"] else step]
