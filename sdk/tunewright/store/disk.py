"""The only module that changes files: every write, rename and removal of the store goes through one of these.

Each operation tells its observers before, in the middle of and after what it does. Tests use that to end the process
at any of them, or to make the disk full there.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tunewright.errors import EnvironmentFault

observers: list[Callable[[str, Path], None]] = []
"""Called with `before:write`, `during:write`, `after:write` … and the path."""


def _tell(moment: str, path: Path) -> None:
    for observer in observers:
        observer(moment, path)


def fault(path: Path, need: int, error: OSError) -> EnvironmentFault:
    """What the system's refusal to write means to a user: path, need and free space, and what to do. 0 = not known."""
    free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        size = f"{need:,}" if need else "more"
        return EnvironmentFault(
            f"the disk is full: writing {path} needs {size} bytes, {free:,} are free",
            fix="free some space and run the same command again; nothing that was finished is lost",
        )
    return EnvironmentFault(f"cannot write {path}: {error.strerror}", fix="check the folder's permissions")


def write(path: Path, data: bytes) -> None:
    """Write and fsync a file. Not atomic: for files inside a folder that is renamed as a whole."""
    _tell("before:write", path)
    try:
        with path.open("wb") as file:
            half = len(data) // 2
            file.write(data[:half])
            _tell("during:write", path)
            file.write(data[half:])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise fault(path, len(data), error) from error
    path.chmod(0o644)  # whatever the umask: hand-offs are read by others
    _tell("after:write", path)


def replace(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new ones."""
    staged = path.with_name(f".{path.name}.new")
    write(staged, data)
    rename(staged, path)


def rename(source: Path, target: Path) -> None:
    """Rename in one step and fsync the folder, so that the name survives a power cut."""
    _tell("before:rename", target)
    try:
        source.replace(target)
        sync(target.parent)
    except OSError as error:
        raise fault(target, 0, error) from error
    _tell("after:rename", target)


def sync(path: Path) -> None:
    """fsync a file or a folder that someone else wrote."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents."""
    _tell("before:mkdir", path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(path, 0, error) from error
    _tell("after:mkdir", path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; absent is fine. A folder leaves its name first, in one step."""
    if path.is_symlink() or path.is_file():
        _tell("before:remove", path)
        path.unlink(missing_ok=True)
        _tell("after:remove", path)
    elif path.is_dir():
        gone = path if path.name.startswith(".gone-") else path.with_name(f".gone-{path.name}")
        if gone != path:
            shutil.rmtree(gone, ignore_errors=True)
            rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
        _tell("after:remove", path)


def link(target: Path, name: Path) -> None:
    """A relative symbolic link, put in place in one step."""
    staged = name.with_name(f".{name.name}.new")
    staged.unlink(missing_ok=True)
    staged.symlink_to(os.path.relpath(target, name.parent))
    rename(staged, name)


def append(path: Path, line: bytes) -> None:
    """Append one line to a log; a torn last line is the reader's to skip."""
    with path.open("ab") as file:
        file.write(line)
