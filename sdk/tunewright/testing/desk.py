"""The folders of one check, and a watch over what is written anywhere else.

Python tells of every file it opens for writing, makes, renames or removes (`sys.addaudithook`). What a library writes
by native code, or another process that it starts, is not told.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REMOVALS = frozenset({"os.remove", "os.rmdir"})
EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    # places of the paths among an event's arguments, and of the folder's descriptor that each may be relative to
    "open": ((0, None),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "sqlite3.connect": (),
}


class Desk:
    """Hands out folders below `folder`: those that a backend may write in, and the kit's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.given: list[Path] = []
        self.count = 0

    def give(self, name: str) -> Path:
        """A new empty folder that the backend may write in."""
        made = self.keep(name)
        self.given.append(made)
        return made

    def keep(self, name: str) -> Path:
        """A new empty folder of the kit's own: what a backend writes there is written outside."""
        with unwatched():
            self.count = next(n for n in count(self.count + 1) if not list(self.folder.glob(f"{n:04}-*")))
            made = self.folder / f"{self.count:04}-{name}"
            made.mkdir(parents=True)
        return made

    def may_write(self, path: Path) -> bool:
        """Whether the path lies in a folder that was given."""
        return any(path.is_relative_to(folder) for folder in self.given)


class Watch:
    """What was written while it was on, as (event, absolute path)."""

    def __init__(self) -> None:
        self.heard: dict[Path, str] = {}
        self.opened: dict[Path, tuple[int, int] | None] = {}
        """Databases as they were when they were opened: for reading, for all that is known."""

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event that may write."""
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        if event == "sqlite3.connect":
            path = _absolute(_database(arguments[0]), -1)
            if path is not None:
                self.opened.setdefault(path, _mark(path))
            return
        for place, relative_to in EVENTS[event]:
            path = _absolute(arguments[place], arguments[relative_to] if relative_to is not None else -1)
            if path is not None:
                self.heard.setdefault(path, event)

    def written(self) -> Iterator[tuple[Path, str]]:
        """Everything that was heard, and the databases that are not as they were."""
        yield from self.heard.items()
        yield from ((path, "write") for path, before in self.opened.items() if _mark(path) != before)


_current: Watch | None = None
_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _current is not None and event in EVENTS:
        _current.hear(event, arguments)


@contextmanager
def unwatched() -> Iterator[None]:
    """Within it nothing is heard: the kit's own writing."""
    global _current
    before, _current = _current, None
    try:
        yield
    finally:
        _current = before


@contextmanager
def watched(desk: Desk, outside: list[str]) -> Iterator[None]:
    """Within it every write is heard; on leaving, those outside the given folders are appended to `outside`."""
    global _current, _hooked
    if not _hooked:  # a hook cannot be taken away again, so there is one a process, and a flag
        sys.addaudithook(_hear)
        _hooked = True
    watch = Watch()
    before, _current = _current, watch
    try:
        yield
    finally:
        _current = before
        outside += _outside(desk, watch)


def _outside(desk: Desk, watch: Watch) -> Iterator[str]:
    temporary = Path(tempfile.gettempdir()).resolve()
    for path, event in watch.written():
        if desk.may_write(path) or _nobodys(path):
            continue
        inside = path.is_relative_to(desk.folder)
        if path.is_relative_to(temporary) and not path.exists() and not (inside and event in REMOVALS):
            continue  # a temporary file that was cleaned up
        yield f"{event.removeprefix('os.')} `{path}`"


def _nobodys(path: Path) -> bool:
    """Devices, and the interpreter's own compiled files."""
    return path.parts[1:2] in (("dev",), ("proc",)) or "__pycache__" in path.parts


def _mark(path: Path) -> tuple[int, int] | None:
    """Size and date of a file, by which a change shows; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _database(named: Any) -> Any:
    """The file that a database's name or URI stands for."""
    text = os.fsdecode(named)
    return unquote(urlsplit(text).path) if text.startswith("file:") else named


def _absolute(path: Any, folder: Any) -> Path | None:
    """The path that an event names, or None where it is a descriptor or cannot be known."""
    if path is None or isinstance(path, int) or path in (":memory:", ""):
        return None
    try:
        found = Path(os.fsdecode(path))
        if isinstance(folder, int) and folder >= 0 and not found.is_absolute():
            found = Path(f"/proc/self/fd/{folder}").readlink() / found
        return Path(os.path.realpath(found.parent)) / found.name
    except (OSError, TypeError, ValueError):
        return None
