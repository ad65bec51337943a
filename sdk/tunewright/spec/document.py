"""YAML with positions: a file becomes plain values, and every key and value remembers where it stands.

ruamel composes the nodes (YAML 1.2); scalars are resolved here, so that nothing but text, numbers, booleans, null,
lists and mappings can come out of a file. Duplicate keys, tags, oversized files, deep nesting and alias bombs are
problems with a position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tunewright.spec.problems import Position, Problem, SpecError

MAX_BYTES = 1 << 20
MAX_NODES = 20_000  # after aliases are expanded: a spec has hundreds
MAX_DEPTH = 40

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
    """One file as a document. Raises `SpecError` with every problem found."""
    name = _display(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _fail(name, "file-too-large", f"a spec has at most {MAX_BYTES:,} bytes", Position(name, 1, 1, 2))
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _fail(name, "file-unreadable", f"cannot read: {error.strerror}", Position(name, 1, 1, 2)) from error
    except UnicodeDecodeError as error:
        raise _fail(name, "not-utf-8", f"byte {error.start} is not UTF-8", Position(name, 1, 1, 2)) from error
    return parse(text, name, path.absolute().parent)


def _display(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def parse(text: str, file: str, folder: Path) -> Document:
    """A text as a document, its problems under the name `file`."""
    document = Document(file=file, folders={file: folder}, sources={file: text.splitlines()})
    builder = _Builder(document)
    root = _compose(text, document)
    if root is not None:
        value = builder.build(root, ())
        if isinstance(root, MappingNode):
            document.data = value
        else:
            builder.problem("wrong-type", "a spec is a mapping of keys to values", root)
    if builder.problems:
        raise SpecError(builder.problems, document.sources)
    return document


def _compose(text: str, document: Document) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
        return node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        position = Position(document.file, line, column, column + 1)
        why = " ".join(str(error.problem or error.context or "").split())
        raise SpecError([Problem("yaml-syntax", f"not YAML: {why}", position)], document.sources) from error
    except (YAMLError, ValueError) as error:
        position = Position(document.file, 1, 1, 2)
        raise SpecError([Problem("yaml-syntax", f"not YAML: {error}", position)], document.sources) from error
    except RecursionError as error:
        position = Position(document.file, 1, 1, 2)
        raise SpecError([Problem("yaml-too-deep", "nested too deeply", position)], document.sources) from error


def _fail(file: str, code: str, message: str, position: Position) -> SpecError:
    return SpecError([Problem(code, message, position)], {file: ()})


class _Builder:
    """Walks composed nodes, making values and noting places; stops adding once a bound is passed."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.nodes = 0

    def problem(self, code: str, message: str, node: Node, suggestion: str = "") -> None:
        self.problems.append(Problem(code, message, self.place(node), suggestion))

    def place(self, node: Node) -> Position:
        start, end = node.start_mark, node.end_mark
        last = end.column if end.line == start.line else start.column + 1
        return Position(self.document.file, start.line + 1, start.column + 1, max(last, start.column + 1) + 1)

    def build(self, node: Node, key: Key) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(key) > MAX_DEPTH:
            code = "yaml-too-deep" if len(key) > MAX_DEPTH else "yaml-too-large"
            if not any(problem.code == code for problem in self.problems):
                self.problem(code, f"more than {MAX_NODES:,} values or {MAX_DEPTH} levels", node)
            return None
        self.document.values[key] = self.place(node)
        if _foreign_tag(node):
            self.problem("yaml-tag", f"tags such as `{node.tag}` are not allowed in a spec", node)
            return None
        if isinstance(node, MappingNode):
            return dict(self._pairs(node, key))
        if isinstance(node, SequenceNode):
            return [self.build(child, (*key, index)) for index, child in enumerate(node.value)]
        return _scalar(node)

    def _pairs(self, node: MappingNode, key: Key) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Node] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, ScalarNode):
                self.problem("wrong-type", "a key is a word, not a list or a mapping", name_node)
                continue
            name = str(name_node.value)
            if name in seen:
                first = seen[name].start_mark.line + 1
                self.problem("duplicate-key", f"`{name}` stands here and in line {first}", name_node, "keep one")
                continue
            seen[name] = name_node
            self.document.keys[(*key, name)] = self.place(name_node)
            yield name, self.build(value_node, (*key, name))


_RESOLVED = {"str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp"}


def _foreign_tag(node: Node) -> bool:
    prefix, _, name = str(node.tag).rpartition(":")
    return prefix != "tag:yaml.org,2002" or name not in _RESOLVED


def _scalar(node: Node) -> Any:
    text, tag = str(node.value), str(node.tag).rpartition(":")[2]
    if getattr(node, "style", None) in ("'", '"', "|", ">"):
        return text
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag in ("int", "float"):
        return _number(text)
    return text


def _number(text: str) -> int | float | str:
    plain = text.replace("_", "")
    readers: tuple[Callable[[str], int | float], ...] = (
        lambda t: int(t, 0),
        int,
        float,
        lambda t: float(t.lower().replace(".inf", "inf").replace(".nan", "nan")),
    )
    for reader in readers:
        try:
            return reader(plain)
        except ValueError:
            continue
    return text
