"""What a spec says now beside what a run was made of: a spec stands for its latest run, and may have changed since."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput
from tunewright.spec.load import load
from tunewright.spec.model import PROJECT

SHOWN = 3  # fields that are named
_NONE = object()  # null is a value


def said(data: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's values, with `extends` and `--set` in them, as plain JSON: what `plan.json` keeps."""
    found: dict[str, Any] = json.loads(json.dumps(data))
    return found


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted path; a list of plain values is one."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{place}.{number}")
    else:
        yield place, value


class NamedSpec:
    """A spec that is named in place of a run. Raises `SpecError` where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, load(path).data

    @property
    def root(self) -> Path:
        """The root of its runs, under the working folder. Raises `BadInput` where the spec has no name."""
        name = self.data.get("name")
        if not isinstance(name, str) or not re.fullmatch(PROJECT, name):
            what = "has no `name`" if name is None else f"is called {name!r}, which is no `name` of a spec"
            raise BadInput(
                f"{self.path} {what}: where its runs are is not known",
                fix="give it the `name` that it was run under, or name a run's folder",
            )
        return Path("runs") / name

    def unlike(self, run: Path) -> str:
        """A sentence where the spec is not what a run was made of, or where that cannot be told; empty where it is."""
        try:
            then = json.loads((run / "plan.json").read_text(encoding="utf-8"))["said"]
        except (OSError, ValueError, KeyError):  # damaged, or of before it was kept
            return f"the run in {run} does not tell what spec it was made of: {self.path} may have changed since"
        old, new = dict(leaves(then)), dict(leaves(said(self.data)))
        fields = [field for field in dict.fromkeys([*old, *new]) if old.get(field, _NONE) != new.get(field, _NONE)]
        if not fields:
            return ""
        more = f" and {len(fields) - SHOWN} more" if len(fields) > SHOWN else ""
        names = ", ".join(f"`{field}`" for field in fields[:SHOWN])
        return (
            f"{self.path} is not what the run in {run} was made of, by a change since or by `--set`: {names}{more} "
            f"{'differs' if len(fields) == 1 else 'differ'}; what is told is the run's"
        )
