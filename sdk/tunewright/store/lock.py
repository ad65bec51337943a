"""One writer a root: a second one fails at once and names who holds it. A dead holder's lock frees itself."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tunewright.errors import EnvironmentFault, RootLocked
from tunewright.store import disk


@contextmanager
def writer(root: Path) -> Iterator[None]:
    """Hold the root's lock. Raises `RootLocked` with the holder's pid and host."""
    disk.make_folder(root)
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _held(root) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot lock {root}: {error.strerror}", fix="name another root with `--out`") from error
    try:
        disk.replace(root / ".holder", json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        lock.release()


def _held(root: Path) -> RootLocked:
    try:
        holder = json.loads((root / ".holder").read_text())
        who = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return RootLocked(
        f"{who} is running in {root}", fix="wait for it, or give this run another root with `--out FOLDER`"
    )
