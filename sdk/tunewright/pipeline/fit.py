"""Whether adapters go onto their base, before anything is downloaded: tried on a model without numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tunewright.parts.base import BadOption
from tunewright.resolve.resolved import Resolved
from tunewright.spec.problems import Problem


def misfits(resolved: Resolved, config: Mapping[str, Any] | None) -> Iterator[Problem]:
    """What the adapter cannot be on a base of this config.json, nor those that exports take up; nothing where the base
    is not known by it."""
    model = None if config is None else resolved.loader.outline(config)
    if config is None or model is None:
        return
    try:
        resolved.adapter.fit(model)
    except BadOption as error:
        yield resolved.problem(resolved.adapter, error.finding)
    for exporter in resolved.exporters:
        try:
            exporter.fit(partial(resolved.loader.outline, config))
        except BadOption as error:
            yield resolved.problem(exporter, error.finding)
