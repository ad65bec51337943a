"""JSON text read piece by piece: a list of any length takes the memory of its longest element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from tunewright.parts.base import BadOption, Json
from tunewright_files.values import DECODER, Unreadable, why_not

BLOCK = 64 * 1024  # bytes
MAX_VALUE = 1 << 20  # characters: a longer row is a broken file, and would be held in memory whole
TOO_LONG = Unreadable(f"a value of more than {MAX_VALUE:,} characters")
SPACE = re.compile(r"[ \t\r\n]*")
MARK = re.compile(r'"(?:[^"\\]|\\.)*+(?P<close>"?)|[\[\]{},]', re.DOTALL)
FOREIGN = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as Python's `surrogateescape` keeps it


class Cut(Exception):
    """More of the file is needed than may be read."""


class JsonText:
    """A place in a JSON file. What was read past is forgotten; lines are counted for messages.

    At most `most` bytes are read, then `Cut` is raised. What is no JSON between values is a `BadOption` (`bad-json`):
    nothing after it can be trusted.
    """

    def __init__(self, file: BinaryIO, name: str, most: int | None = None) -> None:
        self.file, self.name, self.left = file, name, most
        self.text, self.at, self.lines, self.whole = "", 0, 1, False
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")

    def line(self, at: int) -> int:
        """The line in the file of a place in what is kept of it."""
        return self.lines + self.text.count("\n", 0, at)

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches no space as well
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def take(self, *wanted: str) -> str:
        """Step over the next character, one of the wanted."""
        found = self.peek()
        if found not in wanted:
            self.refuse(f"`{' or '.join(wanted)}` should be here")
        self.at += 1
        return found

    def members(self) -> Iterator[str]:
        """Each key of the object that begins here; the caller steps over its value."""
        self.take("{")
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            key = self.value() if self.peek() == '"' else Unreadable("a key in double quotes should be here")
            if isinstance(key, Unreadable):
                self.refuse(key.why)
            self.take(":")
            yield key
            if self.take(",", "}") == "}":
                return

    def elements(self) -> Iterator[int]:
        """Counts the elements of the list that begins here, from 1; the caller steps over each."""
        self.take("[")
        if self.peek() == "]":
            self.at += 1
            return
        number = 0
        while True:
            number += 1
            yield number
            if self.take(",", "]") == "]":
                return

    def value(self) -> Json | Unreadable:
        """Step over one value and give it back, or why it is none: by its brackets and quotes its end is known."""
        if self.peek() in ("", ",", "]", "}"):
            self.refuse("a value should be here")
        while True:
            found, end = self._decode()
            if end is not None and (end < len(self.text) or self.whole):
                if end - self.at > MAX_VALUE:
                    found = TOO_LONG
                elif FOREIGN.search(self.text, self.at, end):
                    found = Unreadable("not UTF-8")
                self.at = end
                return found
            if len(self.text) - self.at > MAX_VALUE:
                self.skip()
                return TOO_LONG
            if not self._more():
                self.refuse("the file ends inside of what begins here")

    def _decode(self) -> tuple[Json | Unreadable, int | None]:
        try:
            return DECODER.raw_decode(self.text, self.at)
        except (ValueError, RecursionError) as error:
            found = why_not(error)
            if isinstance(error, json.JSONDecodeError):
                found = Unreadable(f"{found.why} (line {self.line(error.pos)})")
            end, _, ended = self._scan(self.at, 0)
            return found, end if ended else None

    def skip(self) -> None:
        """Step over one value of any length without keeping it."""
        self.peek()
        begins, depth = self.line(self.at), 0
        while True:
            self.at, depth, ended = self._scan(self.at, depth)
            if ended:
                return
            self._shorten()
            if not self._more():
                self.refuse(f"the file ends inside of the value that begins on line {begins}")

    def _shorten(self) -> None:
        """Forget what is within a text that goes on: all that matters is whether it ends in half of an escape."""
        if self.text[self.at :].startswith('"'):
            self.lines += self.text.count("\n")
            within = self.text[self.at + 1 :]
            half = (len(within) - len(within.rstrip("\\"))) % 2
            self.text, self.at = '"' + "\\" * half, 0

    def _scan(self, at: int, depth: int) -> tuple[int, int, bool]:
        """From a place `depth` brackets deep: (how far it could see, the depth there, whether the value ends there)."""
        for mark in MARK.finditer(self.text, at):
            if mark["close"] == "":
                return mark.start(), depth, False  # the text goes on beyond what was read
            inside = depth + (mark[0] in "[{") - (mark[0] in "]}")
            if inside < 0 or (inside == 0 and mark[0] == ","):
                return mark.start(), depth, True
            if inside == 0 and mark[0] in "]}":
                return mark.end(), inside, True
            depth = inside
        return len(self.text), depth, self.whole and depth == 0

    def finish(self) -> None:
        """Nothing but space may follow."""
        if self.peek():
            self.refuse("the file goes on after its one value")

    def refuse(self, why: str, code: str = "bad-json", field: str = "path", fix: str = "") -> NoReturn:
        """Raise a `BadOption` that names this line."""
        line = self.line(self.at)
        if FOREIGN.match(self.text, self.at):
            raise BadOption("not-utf-8", f"{self.name}:{line}: not UTF-8 text", "path")
        raise BadOption(code, f"{self.name}:{line}: {why}", field, fix)

    def _more(self) -> bool:
        """Read on, as much as is kept: what is decoded again is a share of it. False at the end of the file."""
        if self.whole:
            return False
        self.lines += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :], 0
        size = max(BLOCK, len(self.text))
        if self.left is not None:
            size = min(size, self.left)
            self.left -= size
            if size == 0:
                raise Cut
        data = self.file.read(size)
        self.whole = len(data) < size
        self.text += self.decoder.decode(data, final=self.whole)
        return True
