"""What is trained on top of a base: an adapter, or the base itself (`none`).

A complete method is tests/fakes/plugin.py's `FakeAdapter`.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from tunewright.parts.base import Backend, O


class AdapterMethod(Backend[O]):
    """Wraps a base for training, saves what was trained apart from it, and attaches it again."""

    part: ClassVar[str] = "adapter"

    @abstractmethod
    def wrap(self, model: Any, parent: Path | None) -> Any:
        """The model with trainable parameters in place: fresh ones, or `parent`'s."""

    @abstractmethod
    def save(self, model: Any, out: Path) -> None:
        """Write what was trained into the empty folder `out`; equal weights give equal bytes."""

    @abstractmethod
    def attach(self, model: Any, saved: Path) -> Any:
        """A freshly loaded base with what `save` wrote put on it, for inference."""

    @abstractmethod
    def count(self, model: Any) -> tuple[int, int]:
        """(trainable parameters, all parameters) of a wrapped model; a packed 4-bit weight counts as its parameters."""

    @abstractmethod
    def digest(self, model: Any) -> str:
        """Digest of the trained tensors as they are in memory: proves which weights a model carries."""
