"""Whether an adapter goes onto its base, before anything is downloaded: tried on a model without numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.parts.base import BadOption
from tunewright.resolve.resolved import Resolved
from tunewright.spec.problems import Problem


def misfits(resolved: Resolved, config: Mapping[str, Any] | None) -> Iterator[Problem]:
    """What the adapter cannot be on a base of this config.json; nothing where the base is not known by it."""
    model = None if config is None else resolved.loader.outline(config)
    if model is None:
        return
    try:
        resolved.adapter.fit(model)
    except BadOption as error:
        yield resolved.problem(resolved.adapter, error.finding)
