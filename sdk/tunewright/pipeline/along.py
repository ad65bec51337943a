"""Memory along a training: what the process and its GPU hold after each optimizer step.

It is beside the outcome, which two trainings of the same spec have in common: it stands in the events and in the
manifest's notes, and nothing of it is in a key, a checkpoint or a digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.pipeline.meter import held_on_device, resident
from tunewright.pipeline.step import Emit
from tunewright.store import disk

MEMORY = "memory.json"
MOST = 400
"""Steps that the manifest tells of: of more, each tells of the most that several held."""

Held = tuple[int, int, int]
"""An optimizer step, bytes of the process, bytes taken of the GPU; 0 where none is used."""


class Along:
    """Passes a training's events on, with `rss_bytes` and `device_bytes` in those of its steps.

    What was held up to the checkpoint after step `resumed`, in an earlier process, is read from `scratch`.
    """

    def __init__(self, scratch: Path, emit: Emit, resumed: int = 0) -> None:
        self.path, self._emit = scratch / MEMORY, emit
        self.held = [one for one in self._kept() if one[0] <= resumed]

    def _kept(self) -> list[Held]:
        """What an earlier process kept: a curve with a gap is no reason to stop a training."""
        try:
            return [(step, rss, device) for step, rss, device in json.loads(self.path.read_text("utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def emit(self, event: Mapping[str, Any]) -> None:
        """Send an event on; that of a step with what is held now."""
        told = dict(event)
        if told.get("event") == "train" and isinstance(step := told.get("optimizer_step"), int):
            rss, device = resident(), held_on_device()
            self.held.append((step, rss, device))
            told |= {name: size for name, size in (("rss_bytes", rss), ("device_bytes", device)) if size}
        self._emit(told)

    def keep(self) -> None:
        """Write down what a resume from here cannot measure again."""
        disk.replace(self.path, canonical_json(self.held))

    def told(self) -> list[Held]:
        """The steps in their order, at most `MOST`; none where the system says nothing."""
        size = -(-len(self.held) // MOST) or 1
        some = [self.held[start : start + size] for start in range(0, len(self.held), size)]
        found = [(few[-1][0], max(rss for _, rss, _ in few), max(device for *_, device in few)) for few in some]
        return found if any(rss or device for _, rss, device in found) else []
