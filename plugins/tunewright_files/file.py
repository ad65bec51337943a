"""What every source of one text file has in common: where it is, its digest, and lines that are really text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.digest import digest_file
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption, Head
from tunewright.parts.data_source import Broken, DataSource, Row, SourceOptions

HEAD_BYTES = 64 * 1024
MAX_LINE = 1 << 20  # characters: a longer line is a broken file, and would be held in memory whole


def readable(path: Path, written: str, field: str = "path") -> Path:
    """The path, once it is known to be a file with something in it. Raises `BadOption` on the option that names it."""
    try:
        there, size = path.is_file(), path.stat().st_size if path.exists() else 0
    except OSError as error:  # a name that the system does not take, a folder that may not be read
        message = f"`{written}` cannot be read: {error.strerror}"
        raise BadOption("file-unreadable", message, field) from error
    if not there:
        raise BadOption("file-missing", f"there is no file `{written}`", field)
    if not os.access(path, os.R_OK):
        raise BadOption("file-unreadable", f"`{written}` cannot be read: it belongs to somebody else", field)
    if size == 0:
        raise BadOption("file-empty", f"`{written}` is empty", field)
    return path


class FileOptions(SourceOptions):
    """Options of a source that reads one UTF-8 file."""

    path: Annotated[SpecPath, Field(description="The file, relative to the spec that names it; UTF-8.")]


class FileSource(DataSource[FileOptions]):
    """A source that is one file; subclasses say how its text becomes rows."""

    Options: ClassVar = FileOptions
    reads = frozenset({"path"})

    @property
    def path(self) -> Path:
        return self.options.path.path

    @property
    def name(self) -> str:
        return self.path.name

    def digest(self) -> str:
        self._readable()
        return digest_file(self.path)

    def _readable(self) -> Path:
        return readable(self.path, self.options.path.written)

    def _head_text(self) -> str:
        """The first 64 KiB, cut at the last whole line. Raises `BadOption` where it is not UTF-8 text."""
        self._readable()
        with self.path.open("rb") as file:
            data = file.read(HEAD_BYTES)
            if len(data) == HEAD_BYTES and b"\n" not in data:
                data += file.readline(MAX_LINE)  # a first line longer than the head: without it nothing is known
        if len(data) >= HEAD_BYTES:
            data = data[: data.rfind(b"\n") + 1] or data
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise BadOption("not-utf-8", f"{self.name}:{line}: not UTF-8 text", "path") from error

    def _lines(self) -> Iterator[tuple[int, str | Broken]]:
        """(line number, its text with the line end), or why it is not text."""
        self._readable()
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                yield number, self._text(number, line)

    def _text(self, number: int, line: bytes) -> str | Broken:
        origin = f"{self.name}:{number}"
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            return Broken(origin, f"a line of more than {MAX_LINE:,} bytes")
        if b"\0" in line:
            return Broken(f"{origin}:{line.index(0) + 1}", "a NUL byte")
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return Broken(f"{origin}:{error.start + 1}", "not UTF-8")


__all__ = ["Broken", "FileOptions", "FileSource", "Head", "Row"]
