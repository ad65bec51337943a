"""YAML with positions: a file becomes plain values, and every key and value remembers where it stands.

Duplicate keys, merge keys and tags are problems with a place, beside all others that a spec has; oversized files,
deep nesting and alias bombs end the reading at once.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.spec.compose import MAX_DEPTH, MAX_NODES, Node, Pairs, compose, lines_of, short
from tunewright.spec.problems import Position, Problem, SpecError
from tunewright.spec.scalar import meaning

MAX_BYTES = 128 << 10  # a spec has a few thousand

Key = tuple[str | int, ...]
"""The way to a value: `("data", "train", 0, "path")`."""


@dataclass
class Document:
    """A spec's values, with the place of every key and value, and the lines of every file that had a part in it."""

    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Key, Position] = field(default_factory=dict)
    values: dict[Key, Position] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, Sequence[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the text, and yet does not hide what else is wrong: reported with the rest."""
    file: str = "<spec>"

    def at(self, key: Key, *, prefer_key: bool = False) -> Position:
        """Where a value stands (or its key); the nearest enclosing one where it is not written."""
        tables = (self.keys, self.values) if prefer_key else (self.values, self.keys)
        for depth in range(len(key), -1, -1):
            for table in tables:
                if key[:depth] in table:
                    return table[key[:depth]]
        return Position(self.file, 1, 1, 2)

    def folder(self, key: Key) -> Path:
        """The folder that relative paths of this value start from: that of the file that wrote it."""
        return self.folders.get(self.at(key).file, Path.cwd())


def read(path: Path) -> Document:
    """One file as a document. Raises `SpecError` where it cannot be read."""
    name = _display(path)
    return parse(_decoded(_bytes(path, name), name), name, path.absolute().parent)


def _display(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _bytes(path: Path, name: str) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for who writes into it
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise _fail(name, "file-unreadable", f"cannot read: it is {what}", "name a spec's file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _fail(name, "file-unreadable", f"cannot read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        message = f"a spec has at most {MAX_BYTES >> 10} KiB"
        raise _fail(name, "file-too-large", message, "rows belong in data files that the spec names")
    return raw


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the text before the byte says where it stands
        lines = lines_of(raw[: error.start].decode("utf-8", "replace").removeprefix("\ufeff"))
        place = Position(name, len(lines), len(lines[-1]) + 1, len(lines[-1]) + 2)
        utf_16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        message = "the file is UTF-16 or UTF-32" if utf_16 else f"the byte 0x{raw[error.start]:02x} is not UTF-8"
        shown = {name: lines_of(raw.decode("utf-8", "replace"))}
        raise SpecError([Problem("not-utf-8", message, place, "save it as UTF-8")], shown) from error


def parse(text: str, file: str, folder: Path) -> Document:
    """A text as a document, its problems under the name `file`. Raises `SpecError` where it cannot be read on."""
    document, root = parse_value(text, file, folder)
    if isinstance(root, dict):
        document.data = root
    elif () in document.values:
        place = document.values[()]
        document.problems.append(Problem("wrong-type", "a spec is a mapping of keys to values", place))
        raise SpecError(document.problems, document.sources)
    return document


def parse_value(text: str, file: str, folder: Path) -> tuple[Document, Any]:
    """Any one value, and a document that holds its places, the value's own under `()`. Raises `SpecError`."""
    lines = lines_of(text)
    document = Document(file=file, folders={file: folder}, sources={file: lines})
    root = compose(text, file, lines)
    return document, None if root is None else _Builder(document).build(root, ())


def _fail(file: str, code: str, message: str, suggestion: str = "") -> SpecError:
    return SpecError([Problem(code, message, Position(file, 1, 1, 2), suggestion)], {file: ()})


class _Builder:
    """Walks nodes, making values and noting places. Aliases are expanded here, within the same bounds."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def problem(self, code: str, message: str, node: Node, suggestion: str = "") -> None:
        self.document.problems.append(Problem(code, message, node.place, suggestion))

    def build(self, node: Node, key: Key) -> Any:
        self.bound(node, key)
        self.document.values[key] = node.place
        if node.tag:
            self.problem(
                "yaml-tag", f"tags such as `{short(node.tag)}` are not allowed in a spec", node, "write plain values"
            )
        if isinstance(node.value, Pairs):
            return dict(self.pairs(node.value, key))
        if isinstance(node.value, list):
            return [self.build(child, (*key, index)) for index, child in enumerate(node.value)]
        return self.scalar(node)

    def bound(self, node: Node, key: Key) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(key) > MAX_DEPTH:
            code = "yaml-too-deep" if len(key) > MAX_DEPTH else "yaml-too-large"
            self.problem(code, f"with its aliases, more than {MAX_NODES:,} values or {MAX_DEPTH} levels", node)
            raise SpecError(self.document.problems, self.document.sources)

    def scalar(self, node: Node) -> Any:
        try:
            return meaning(node.value, node.plain)
        except ValueError as error:
            self.problem("bad-value", f"this cannot be used: {error}", node)
            return None

    def pairs(self, pairs: Pairs, key: Key) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Node] = {}
        for name_node, value_node in pairs:
            name = self.name(name_node)
            if name is None:
                continue
            if name in seen:
                first = seen[name].place.line
                self.problem("duplicate-key", f"`{short(name)}` stands here and in line {first}", name_node, "keep one")
                continue
            seen[name] = name_node
            self.document.keys[(*key, name)] = name_node.place
            if value_node.plain and not value_node.value:  # what is not written is missed at its key
                value_node = value_node._replace(place=name_node.place)
            yield name, self.build(value_node, (*key, name))

    def name(self, node: Node) -> str | None:
        """What a key is called; None, with a problem, where it is no word."""
        if not isinstance(node.value, str):
            self.problem("wrong-type", "a key is a word, not a list or a mapping", node)
            return None
        if node.tag:
            self.problem(
                "yaml-tag", f"tags such as `{short(node.tag)}` are not allowed in a spec", node, "write plain keys"
            )
        if node.value == "<<" and node.plain:
            message = "`<<` is a merge key of YAML 1.1, not a key of a spec"
            self.problem("unknown-key", message, node, "write the keys out, or use `extends:`")
            return None
        if self.scalar(node._replace(plain=False)) is None:
            return None
        return node.value
