"""How what was trained leaves the run, in a form that a client serves.

A complete exporter, the one that is always there:

    class Adapter(Exporter):
        kind, Options = "adapter", AdapterOptions

        def export(self, trained, out):
            shutil.copytree(trained.saved, out, dirs_exist_ok=True)
            return Form(engine=trained.engine, attach=True)
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from tunewright.parts.base import Backend, Name, O, Options


class ExporterOptions(Options):
    """The fields of every exporter that the core itself reads."""

    name: Annotated[Name | None, Field(description="Key of the artifact; by default the kind.")] = None


class Trained(NamedTuple):
    """What was trained, and on which base."""

    saved: Path
    base: Path
    identity: str
    base_name: str
    engine: str
    tokenizer: Any
    adapts: bool


@dataclass(frozen=True)
class Form:
    """How anyone reopens an exported form: the engine, and whether it is attached to the base or a model by itself."""

    engine: str
    attach: bool


class Exporter(Backend[O]):
    """Writes one form of what was trained."""

    part: ClassVar[str] = "exporter"

    @property
    def name(self) -> str:
        """Key of the artifact, of its step and of its parity."""
        return getattr(self.options, "name", None) or self.kind

    @abstractmethod
    def export(self, trained: Trained, out: Path) -> Form:
        """Fill the empty folder `out` and say how it is reopened."""
