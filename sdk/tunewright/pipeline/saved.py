"""What another run saved and this one takes up: a parent whose training goes on, an adapter to be combined with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunewright.digest import canonical_json, digest_tree
from tunewright.errors import Refused
from tunewright.handoff import verify
from tunewright.handoff.bound import bound_to
from tunewright.handoff.verify import MANIFEST
from tunewright.parts import Backend, Quantizer
from tunewright.parts.base import SpecPath


class Saved:
    """A package, which is verified and bound to its base and its quantization; or a bare folder, of which nothing is
    known but the base that its adapter names, where it was trained here.

    With `other_quantization` it may be of another one: the spec says that this is meant.
    """

    def __init__(self, written: SpecPath, other_quantization: bool = False) -> None:
        self.written, self.folder = written.written, written.path
        self.other_quantization = other_quantization

    def digest(self) -> str:
        """Of every file in it."""
        return digest_tree(self.folder, sorted(path for path in self.folder.rglob("*") if path.is_file()))

    def about(self) -> dict[str, Any]:
        """What is recorded of it: name and version where it is a package, and its digest."""
        manifest = self._manifest()
        named = {} if manifest is None else {name: manifest[name] for name in ("name", "version")}
        return {**named, "digest": self.digest()}

    def told(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the package, which `check` has proven; None where it has none, or is a bare folder."""
        path = self.folder / name
        if self._manifest() is None or not path.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise Refused(f"the package `{self.written}` has a damaged {name}: {error}") from error
        return found

    def check(self, identity: Mapping[str, Any], quantizer: Quantizer) -> None:
        """Raise `Refused` where it is a package that was altered, of another base, or of another quantization of it
        than `quantizer` makes; or a folder whose adapter names another base."""
        manifest = self._manifest()
        if manifest is None:
            self._check_bare(identity["identity"])
            return
        problems = verify.check(self.folder)
        if problems:
            raise Refused(f"the package `{self.written}` does not verify: {problems[0]}", fix="take the original")
        if differs := verify.other_base(manifest["base"], dict(identity)):
            of, here = manifest["base"]["identity"], identity["identity"]
            raise Refused(
                f"the package `{self.written}` is of another base ({of[:12]}) than this spec's ({here[:12]}): other "
                f"{', '.join(differs)}",
                fix="name the base that it was trained on",
            )
        # packed beforehand, a base has an identity of its own; packed while it is loaded, the same as unpacked
        theirs, ours = manifest["quantization"] or {}, quantizer.describe()
        if canonical_json(theirs) != canonical_json(ours) and not self.other_quantization:
            raise Refused(
                f"the package `{self.written}` was trained over another quantization of its base "
                f"({_otherwise(theirs, ours)}) than this spec's (`{quantizer.kind}`: {_otherwise(ours, theirs)})",
                fix="take the `quantization` of its spec.lock.yaml; or write `other_quantization: true` beside its "
                "path, where this is meant: it may answer otherwise than it was measured",
            )

    def _check_bare(self, here: str) -> None:
        """Tensors of another base would fit, where it has the same shape."""
        of = bound_to(self.folder)
        if of is not None and of != here:
            raise Refused(
                f"the adapter in `{self.written}` is of another base ({of[:12]}) than this spec's ({here[:12]})",
                fix="name the base that it was trained on",
            )

    def _manifest(self) -> dict[str, Any] | None:
        path = self.folder / MANIFEST
        if not path.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return {**found, "name": found["name"], "version": found["version"], "base": dict(found["base"])}
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"the package `{self.written}` has a damaged {MANIFEST}: {error}") from error


def _otherwise(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The settings of a quantization that another one has not, by the library's names."""
    if not one:
        return "none"
    names = (name for name in sorted({*one, *other}) if one.get(name) != other.get(name))
    return ", ".join(f"{name}: {json.dumps(one[name]) if name in one else 'not set'}" for name in names)


def taken_up(backend: Backend) -> dict[str, Saved]:
    """What a backend takes up, by the option that names it."""
    meant = backend.takes_other_quantization()
    return {field: Saved(written, field in meant) for field, written in backend.takes_up().items()}
