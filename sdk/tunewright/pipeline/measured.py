"""How far forecasts of memory were from what was measured: each run keeps both in its steps' manifests.

The next forecast of the same root carries a bar from the lowest to the highest ratio seen there. Until there are
enough, the bar of the benchmark counts as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.store.publish import MANIFEST, Store

BENCHMARK = (0.88, 1.06)
"""Lowest and highest ratio of measured to forecast in `tests/bench/memory.py`, rounded outwards."""
ENOUGH = 5
"""Measured steps of a kind from which on the benchmark's bar is left out."""


class Bar(NamedTuple):
    """By what a forecast is to be multiplied to get the least and the most; `seen` steps of this root have a say."""

    low: float
    high: float
    seen: int

    def around(self, size: int) -> tuple[int, int]:
        """Bytes, at least and at most."""
        return round(size * self.low), round(size * self.high)


def kind_of(step: str) -> str:
    """Steps that are alike: `train-dpo` is a `train`."""
    return step.partition("-")[0]


def bars(store: Store) -> dict[str, Bar]:
    """The bar of each kind of step that this root has measured."""
    found: dict[str, list[float]] = {}
    for manifest in _manifests(store.folder):
        forecast, peak = manifest.get("forecast_bytes"), peak_of(manifest)
        if forecast and peak:
            found.setdefault(kind_of(str(manifest["step"])), []).append(peak / forecast)
    return {kind: bar(ratios) for kind, ratios in found.items()}


def bar(ratios: Iterable[float]) -> Bar:
    """Of the ratios measured / forecast of steps that are alike."""
    seen = list(ratios)
    all_of_them = seen if len(seen) >= ENOUGH else [*seen, *BENCHMARK]
    return Bar(min(all_of_them), max(all_of_them), len(seen))


def peak_of(manifest: Mapping[str, Any]) -> int | None:
    """The bytes that a step held at most where its model lay: on the device, or in its process."""
    found: int | None = manifest.get("peak_device_bytes") or manifest.get("peak_rss_bytes")
    return found


def _manifests(folder: Path) -> Iterable[Mapping[str, Any]]:
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # no output that counts: `Store.find` passes it over as well
        if isinstance(found, dict) and isinstance(found.get("step"), str):
            yield found
