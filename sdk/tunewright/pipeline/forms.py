"""How any form of a model is opened for asking: one way, for evaluation, parity and predict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import BadInput, EnvironmentFault, Refused
from tunewright.handoff.verify import model_identity
from tunewright.parts import AdapterMethod, Backend, Engine, Loader, Quantizer
from tunewright.parts.engine import Served, Subject
from tunewright.parts.whole import Whole


@dataclass(frozen=True)
class Opener:
    """The backends that open a model: who loads it, how its weights are stored, what is put on it, who asks."""

    loader: Loader
    engine: Engine
    quantizer: Quantizer
    adapter: AdapterMethod
    dtype: str
    foreign: bool = False
    """As in `Served`."""

    @property
    def whole(self) -> Whole:
        """The same backends, for a merge of what was trained into its base."""
        return Whole(self.loader, self.quantizer, self.adapter, self.dtype, identity_of)

    def parts(self) -> tuple[Backend, ...]:
        """In the order in which their signatures enter a key."""
        return (self.loader, self.engine, self.quantizer, self.adapter)

    def served(self, folder: Path, saved: Path | None, speaks: Path | None = None) -> AbstractContextManager[Subject]:
        """The base in `folder`, with what was saved put on it if there is any; `speaks` as in `Served`."""
        method = self.adapter if saved is not None else None
        form = Served(folder, self.loader, self.quantizer, self.dtype, method, saved, speaks, self.foreign)
        return self.engine.open(form)

    @contextmanager
    def tuned(self, folder: Path, saved: Path, digest: str) -> Iterator[Subject]:
        """The base with what was trained. Raises `Refused` as `prove` does."""
        with self.served(folder, saved) as subject:
            self.prove(subject, digest)
            yield subject

    def prove(self, subject: Subject, digest: str) -> None:
        """Raise `Refused` unless the tensors that answer are the trained ones.

        Of weights that its engine never sees nothing is known, and nothing is claimed: see `Engine.sees_weights`.
        """
        if self.engine.sees_weights:
            refuse_other(subject.identity, digest)


def refuse_unattachable(opener: Opener) -> None:
    """Raise `BadInput` where its engine cannot put what was trained on this base."""
    for need in opener.engine.attaching():
        other = next(part for part in opener.parts() if part.part == need.part)
        if need.cap not in other.offers():
            message = f"engine `{opener.engine.kind}` needs {need}; `{other.kind}` is not, as it was trained here"
            raise BadInput(message, fix=need.why)


def refuse_lacking(backends: Iterable[Backend]) -> None:
    """What a backend needs is missed now, not hours later. Raises `EnvironmentFault`."""
    for backend in backends:
        if why := backend.lacking():
            raise EnvironmentFault(f"{backend.part.replace('_', ' ')} `{backend.kind}`: {why}")


def identity_of(folder: Path) -> str:
    """The identity of the model in a folder. Raises `Refused` where it holds none."""
    try:
        return model_identity(folder)["identity"]
    except (OSError, ValueError) as error:
        raise Refused(f"{folder.name} holds no whole model: {error}", fix="fetch it again") from error


def refuse_other(identity: str, digest: str, of: str = "trained") -> None:
    """Raise `Refused` unless the weights that a subject carries are those of `digest`: the trained or exported ones."""
    if identity != digest:
        raise Refused(
            f"the weights that were loaded ({identity[:12]}) are not the {of} ones ({digest[:12]})",
            fix="the saved adapter is incomplete or another one; nothing is published",
        )
