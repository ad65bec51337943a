"""Entry points of installed plugins, read from the distributions' own files.

This is what `importlib.metadata.entry_points(group="tunewright")` finds, in a third of its time, since only files
that hold the group are looked at closer: it counts in `validate`, which has a tenth of a second. A test compares.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple


class EntryPoint(NamedTuple):
    """One line of a distribution's entry_points.txt: `name = module` or `name = module:attribute`."""

    name: str
    value: str
    distribution: str
    version: str
    folder: str
    """The distribution's own .dist-info."""

    def requirements(self) -> list[str]:
        """What the distribution says it needs, as it stands in its METADATA."""
        try:
            with open(os.path.join(self.folder, "METADATA"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                lines = file.read().partition("\n\n")[0].splitlines()
        except OSError:  # installed without one
            return []
        return [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]

    def load(self) -> Any:
        """Import what it names."""
        module, _, attribute = self.value.partition(":")
        found = importlib.import_module(module.strip())
        return getattr(found, attribute.strip()) if attribute else found


def entry_points(group: str) -> Iterator[EntryPoint]:
    """Every entry point of a group on `sys.path`; of two copies of a distribution the first counts, as for imports."""
    seen: set[str] = set()
    for folder in sys.path:
        for info in _infos(folder or "."):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            name = name.replace("_", "-").lower()
            if name not in seen:
                seen.add(name)
                for key, value in _section(os.path.join(info.path, "entry_points.txt"), group):  # noqa: PTH118
                    yield EntryPoint(key, value, name, version, info.path)


def _infos(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name.endswith(".dist-info")), key=lambda entry: entry.name)
    except OSError:  # sys.path names archives and folders that are not there
        return []


def _section(path: str, group: str) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib would double the time of this loop
            text = file.read()
    except OSError:  # a distribution without entry points
        return
    inside = False
    for line in text.splitlines() if f"[{group}]" in text else ():
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield key.strip(), value.partition("[")[0].strip()
