"""Where an engine's own environment lies, and whether it is whole.

    <cache>/engines/<kind>-<digest of its requirements>/    a virtual environment
    …/engine.json                                           written last: without it there is no environment

A virtual environment holds its own path, so it cannot be made elsewhere and renamed. What a killed installation left
has no `engine.json`, is taken for nothing, and is removed by the next one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import digest_json
from tunewright.errors import EnvironmentFault
from tunewright.parts import Engine
from tunewright.store.cache import cache_root

RECORD = "engine.json"


class Environment(NamedTuple):
    """A virtual environment of pinned requirements. Other requirements are another one, beside it."""

    kind: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it lies, or would lie."""
        return cache_root() / "engines" / f"{self.kind}-{digest_json(list(self.requirements))[:12]}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it was finished, and the Python that it was made of is still there."""
        return self.record() is not None and self.python.exists()

    def record(self) -> dict[str, Any] | None:
        """What its installation wrote: `requirements`, `packages` with versions, `bytes`; None for no whole one."""
        try:
            found = json.loads((self.folder / RECORD).read_text("utf-8"))
            return dict(found) if found["requirements"] == list(self.requirements) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def package(self, name: str) -> Path:
        """The folder of an import package in it. Raises `EnvironmentFault` where it is not there."""
        found = sorted(self.folder.glob(f"lib/python*/site-packages/{name}"))
        if not found:
            raise EnvironmentFault(
                f"engine `{self.kind}`: its environment in {self.folder} holds no `{name}`",
                fix=f"remove that folder, then: {command(self.kind)}",
            )
        return found[0]


def environment_of(engine: Engine | type[Engine]) -> Environment:
    """The environment that an engine's class names."""
    return Environment(engine.kind, engine.environment)


def command(kind: str) -> str:
    """What a user types to install an engine."""
    return f"tunewright engines install {kind}"


def lacking(engine: Engine) -> str | None:
    """For `Engine.lacking`: the sentence where an engine's environment is not installed, None where it is."""
    if not engine.environment or environment_of(engine).installed:
        return None
    return f"it runs in an environment of its own, which is not installed here; install it: {command(engine.kind)}"
