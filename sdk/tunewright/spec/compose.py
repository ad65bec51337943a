"""YAML 1.2 text becomes nodes with places, within bounds; a text that is no spec ends at the first excess.

ruamel scans and makes events. What a plain word means is not its to say: see `scalar.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import Reader, ReaderError
from ruamel.yaml.scanner import Scanner

from tunewright.spec.problems import Position, Problem, SpecError

MAX_NODES = 10_000  # a spec has hundreds
MAX_DEPTH = 40

# ruamel's sentence → what to do
_FIXES = {
    "mapping values are not allowed here": "put a text that holds `: ` in quotes, or indent the key as its neighbours",
    "could not find expected ':'": "write `key: value`, or put the text in quotes",
    "that cannot start any token": "put the text in quotes",
    "'\\t' that cannot start": "indent with spaces, not tabs",
    "expected <block end>": "indent as its neighbours; put a text that starts with `{`, `[` or a quote in quotes",
    "sequence entries are not allowed here": "put a list in its own lines, or in `[…]`",
}


class Node(NamedTuple):
    """A scalar (`value` is text), a list (of nodes) or a mapping (of pairs of nodes), and where it stands."""

    value: Any
    plain: bool
    """A scalar without quotes: it may be a number, a boolean or null."""
    tag: str
    place: Position


class Pairs(list[tuple[Node, Node]]):
    """The entries of a mapping, in their order."""


def compose(text: str, file: str, lines: list[str]) -> Node | None:
    """The one document of a text, None where it is empty.

    Raises `SpecError` at the first place that is not YAML, and where more than `MAX_NODES` values or `MAX_DEPTH`
    levels are written.
    """
    return _Composer(text, file, lines).document()


def lines_of(text: str) -> list[str]:
    """A text's lines, as YAML 1.2 counts them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def short(text: str) -> str:
    """A text as a message shows it, at most 60 characters."""
    return text if len(text) <= 60 else f"{text[:59]}…"


class _TooDeep(MarkedYAMLError):
    pass


class _Scanner(Scanner):
    """Stops at the bracket that is too many: it would look for what the whole line means first."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803  ruamel calls it so
        if len(self.flow_context) >= MAX_DEPTH:
            raise _TooDeep(problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Reader(Reader):
    """Looks for characters that YAML forbids without the library's expression, whose compilation takes 7 ms."""

    @classmethod
    def _get_non_printable_regex(cls, data: str) -> tuple[int, str] | None:
        found = [data.index(letter) for letter in set(data) if not _printable(letter)]
        return (min(found), data[min(found)]) if found else None


def _printable(letter: str) -> bool:
    """YAML 1.2.2, production 1, `c-printable`."""
    if letter < "\xa0":
        return " " <= letter <= "~" or letter in "\t\n\r\x85"
    return letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" or letter >= "\U00010000"


class _Composer:
    def __init__(self, text: str, file: str, lines: list[str]) -> None:
        self.file, self.lines = file, lines
        self.nodes = 0
        self.anchors: dict[str, Node] = {}
        self.quoted: ScalarEvent | None = None  # the last one over several lines
        self.text = text
        reader = YAML(typ="safe", pure=True)
        reader.Reader, reader.Scanner = _Reader, _Scanner
        self.events: Iterator[Any] = reader.parse(text)

    def document(self) -> Node | None:
        self.next()
        start = self.next()
        if isinstance(start, StreamEndEvent):
            return None
        if isinstance(start, DocumentStartEvent) and start.version not in (None, (1, 2)):
            self.fail("yaml-syntax", "a spec is YAML 1.2", start.start_mark, "remove the line `%YAML`")
        root = self.node(self.next(), 0)
        self.next()
        after = self.next()
        if not isinstance(after, StreamEndEvent):
            self.fail("yaml-syntax", "a second document starts here", after.start_mark, "a spec is one document a file")
        return root

    def next(self) -> Any:
        try:
            return next(self.events)
        except ReaderError as error:
            message = f"a character that nobody sees, U+{error.character:04X}"
            self.refuse_character(error.position, error.position + 1, message, "remove it")
        except _TooDeep as error:
            self.fail("yaml-too-deep", f"more than {MAX_DEPTH} levels", error.problem_mark)
        except MarkedYAMLError as error:
            self.refuse_syntax(error)
        except (YAMLError, ValueError, OverflowError) as error:  # numbers that ruamel does not bound
            self.refuse_escape()
            why = " ".join(str(error).split())
            raise SpecError([Problem("yaml-syntax", f"not YAML: {why[:200]}", self.first())], self.sources()) from error

    def node(self, event: Any, depth: int) -> Node:
        self.nodes += 1
        if depth > MAX_DEPTH:
            self.fail("yaml-too-deep", f"more than {MAX_DEPTH} levels", event.start_mark)
        if self.nodes > MAX_NODES:
            self.fail("yaml-too-large", f"more than {MAX_NODES:,} values", event.start_mark)
        if isinstance(event, AliasEvent):
            return self.alias(event)
        node = self.filled(event, depth)
        if event.anchor is not None:  # only now: an alias inside its own anchor has no end
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: AliasEvent) -> Node:
        if event.anchor not in self.anchors:
            message = f"there is no finished value `&{short(event.anchor)}` before this alias"
            self.fail("yaml-syntax", message, event.start_mark, "name it before, or write the value here")
        return self.anchors[event.anchor]

    def filled(self, event: Any, depth: int) -> Node:
        tag = str(event.tag) if event.tag is not None else ""
        if isinstance(event, ScalarEvent):
            plain = event.style in (None, "")
            if event.style in ("'", '"') and event.start_mark.line < event.end_mark.line:
                self.quoted = event
            return Node(str(event.value), plain, tag, self.span(event.start_mark, event.end_mark))
        children: list[Any] = []
        if isinstance(event, SequenceStartEvent):
            while not isinstance(inner := self.next(), SequenceEndEvent):
                children.append(self.node(inner, depth + 1))
        elif isinstance(event, MappingStartEvent):
            children = Pairs()
            while not isinstance(inner := self.next(), MappingEndEvent):
                children.append((self.node(inner, depth + 1), self.node(self.next(), depth + 1)))
        return Node(children, False, tag, self.span(event.start_mark, inner.end_mark))

    def span(self, start: Any, end: Any) -> Position:
        """Of what runs over several lines, only the first character is pointed at."""
        if start.index == end.index:
            return self.inside(start.line, start.column)
        last = end.column if end.line == start.line else start.column + 1
        return Position(self.file, start.line + 1, start.column + 1, max(last, start.column + 1) + 1)

    def first(self) -> Position:
        return Position(self.file, 1, 1, 2)

    def sources(self) -> dict[str, list[str]]:
        return {self.file: self.lines}

    def inside(self, line: int, column: int) -> Position:
        """A place that is in the file: its end is that of the last line that holds something."""
        number, start = line + 1, column + 1
        if number > len(self.lines) or (number == len(self.lines) and not self.lines[-1]):
            filled = [place for place, text in enumerate(self.lines, 1) if text.strip()]
            number = filled[-1] if filled else 1
            start = len(self.lines[number - 1]) + 1 if self.lines else 1
        return Position(self.file, number, start, start + 1)

    def fail(self, code: str, message: str, mark: Any, suggestion: str = "") -> NoReturn:
        raise SpecError([Problem(code, message, self.inside(mark.line, mark.column), suggestion)], self.sources())

    def refuse_syntax(self, error: MarkedYAMLError) -> NoReturn:
        why = " ".join(str(error.problem or error.context or "").split())
        mark, opened = error.problem_mark or error.context_mark, error.context_mark
        fixes = [fix for sentence, fix in _FIXES.items() if sentence in str(error.problem)]
        if opened is not None and ("stream end" in why or "end of stream" in why):
            mark = opened  # rather than the end of the file
            why, fixes = f"`{self.character(opened)}` is not closed", ["close it"]
        elif self.quoted is not None and mark is not None and mark.line == self.quoted.end_mark.line:
            mark = self.quoted.start_mark  # most likely it was meant to end in its own line
            why = f"`{self.character(mark)}` is closed only in line {self.quoted.end_mark.line + 1}"
            fixes = ["close it in its line"]
        elif opened is not None and "expected ',' or" in why:
            fixes = [f"close the `{self.character(opened)}` of line {opened.line + 1}, or put a comma before this"]
        place = self.inside(mark.line, mark.column) if mark is not None else self.first()
        problem = Problem("yaml-syntax", f"not YAML: {why[:200]}", place, fixes[-1] if fixes else "")
        raise SpecError([problem], self.sources()) from error

    def character(self, mark: Any) -> str:
        place = self.inside(mark.line, mark.column)
        return self.lines[place.line - 1][place.column - 1 : place.column]

    def refuse_character(self, start: int, end: int, message: str, fix: str) -> NoReturn:
        before = lines_of(self.text[:start])
        column = len(before[-1]) + 1
        place = Position(self.file, len(before), column, column + end - start)
        raise SpecError([Problem("yaml-syntax", message, place, fix)], self.sources())

    def refuse_escape(self) -> None:
        """At an escape above the last character there is, if it is that which ruamel could not read."""
        import re  # only here: patterns are compiled at import, which counts in `validate`

        if found := re.search(r"\\U(?!000|0010)[0-9a-fA-F]{8}", self.text):
            self.refuse_character(*found.span(), f"`{found[0]}` is no character", "at most `\\U0010FFFF`")
