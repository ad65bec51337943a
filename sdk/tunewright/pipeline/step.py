"""What a step is: a task built from exactly what it may read, and a key of all that can change its output."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from tunewright.digest import digest_json
from tunewright.errors import TunewrightWarning
from tunewright.parts import Backend
from tunewright.pipeline.interrupts import Interrupts
from tunewright.store.publish import Artifact

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Context:
    """What the runner gives a task besides its inputs: scratch space, the event stream, its upstream manifests."""

    scratch: Path
    emit: Emit
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Manifest of every step that came before, by step: the report reads seconds and memory there."""
    key: str = ""
    interrupts: Interrupts = field(default_factory=Interrupts)
    others: Sequence[str] = ()
    """Unfinished work of the same step under other keys, a sentence each: what it is, and in what it differs."""

    def warn(self, warning: TunewrightWarning) -> None:
        """Say something to the person, and keep it with the run."""
        self.emit({"event": "warning", "why": str(warning)})
        warnings.warn(warning, stacklevel=2)


class Task(ABC):
    """The work of one step. It never sees the Spec: what it is not given, it cannot depend on unkeyed."""

    version: ClassVar[int] = 1  # raised when the same inputs give another output

    def parts(self) -> tuple[Backend, ...]:
        """The backends that it uses; their signatures are in the key."""
        return ()

    def settings(self) -> dict[str, Any]:
        """Everything else that it was built with, as plain JSON."""
        return {}

    def sources(self) -> Mapping[str, str]:
        """Digests of the content that it reads from outside: files, pins."""
        return {}

    def present(self, output: Artifact, *, thorough: bool = False) -> bool:
        """Whether what its output stands for is still there; only fetch's lies outside the store."""
        return True

    def refuse_base(self, base: Artifact) -> None:  # noqa: B027  most take up nothing
        """Raise `Refused` where what it takes up besides does not belong on the base of its port `model`.

        The run asks once the base is there: hours before a step that comes last.
        """

    def lighter(self) -> str:
        """What to change in the spec where this step runs out of memory, as a sentence's beginning; nothing where no
        option of its backends would help."""
        return ""

    @abstractmethod
    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        """Fill the empty folder `out`; what is returned stands in the manifest as `notes`."""


@dataclass(frozen=True)
class Step:
    """A task with a name and its inputs: port → the step that makes it."""

    name: str
    task: Task
    inputs: Mapping[str, str]
    device: str = ""
    """Device type, for steps whose output depends on it; empty for the others."""

    @final
    def key(self, upstream: Mapping[str, str]) -> str:
        """64 hex digits over everything that can change the output; upstream by key, so all keys are known at plan."""
        signatures = [part.signature() for part in self.task.parts()]
        return digest_json({**self._own(), "parts": signatures, "inputs": self._upstream(upstream)})

    @final
    def about(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        """What stands behind the key, as a person can compare it: two keys differ where two of these do."""
        return {**self._own(), **self._parts(), "inputs": self._upstream(upstream)}

    def _parts(self) -> dict[str, Any]:
        """The settings of its backends by part; of several of one part, by their place."""
        found: dict[str, list[Any]] = {}
        for part in self.task.parts():
            found.setdefault(part.part, []).append(part.settings())
        return {
            name: each[0] if len(each) == 1 else {str(place): one for place, one in enumerate(each)}
            for name, each in found.items()
        }

    def _own(self) -> dict[str, Any]:
        return {
            "task": type(self.task).__name__,
            "version": self.task.version,
            "settings": self.task.settings(),
            "sources": dict(self.task.sources()),
            "device": self.device,
        }

    def _upstream(self, keys: Mapping[str, str]) -> dict[str, str]:
        return {port: keys[step] for port, step in self.inputs.items()}
