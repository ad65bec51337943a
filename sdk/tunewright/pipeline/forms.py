"""How any form of a model is opened for asking: one way, for evaluation, parity and predict."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
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
    if found := opener.engine.misread(opener.quantizer):
        raise BadInput(found.message, fix=found.suggestion)
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


SETTLED = 2_000_000_000
"""Nanoseconds after which a file that changes again has another time: no file system counts more coarsely."""
Files = Mapping[str, tuple[int, ...]]
"""Of each file: device, inode, size, and the times, in nanoseconds, of its last change of content and of any change."""
_identified: dict[Path, tuple[Files, str]] = {}


def identity_of(folder: Path) -> str:
    """The identity of the model in a folder. Raises `Refused` where it holds none.

    A base into which one process merges several times is read for it once, as long as none of its files is touched.
    """
    try:
        now, files = time.time_ns(), _files_in(folder)
        if folder in _identified and _identified[folder][0] == files:
            return _identified[folder][1]
        found: str = model_identity(folder)["identity"]
        settled = all(now - max(written, changed) > SETTLED for *_, written, changed in files.values())
        if settled and _files_in(folder) == files:
            _identified[folder] = (files, found)
        return found
    except (OSError, ValueError) as error:
        raise Refused(f"{folder.name} holds no whole model: {error}", fix="fetch it again") from error


def _files_in(folder: Path) -> Files:
    found = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: (at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found.items()}


def refuse_other(identity: str, digest: str, of: str = "trained") -> None:
    """Raise `Refused` unless the weights that a subject carries are those of `digest`: the trained or exported ones."""
    if identity != digest:
        raise Refused(
            f"the weights that were loaded ({identity[:12]}) are not the {of} ones ({digest[:12]})",
            fix="the saved adapter is incomplete or another one; nothing is published",
        )
