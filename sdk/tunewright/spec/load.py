"""A spec from its file, the files it extends, and the values set on the command line: one document.

`extends: base.yaml` merges mappings; lists, and a mapping whose `kind` changes, are replaced. `--set a.b=VALUE` takes
YAML and numbers lists' places; its problems stand in the file `--set a.b=VALUE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunewright.spec.document import Document, Key, parse, read
from tunewright.spec.problems import Position, Problem, SpecError


def load(path: Path, overrides: Iterable[str] = ()) -> Document:
    """The document of a spec, `extends` and `--set` applied. Raises `SpecError`."""
    document = _extended(path, ())
    for override in overrides:
        _override(document, override)
    return document


def _extended(path: Path, seen: tuple[Path, ...]) -> Document:
    document = read(path)
    parent = document.data.pop("extends", None)
    if parent is None:
        return document
    place = document.at(("extends",))
    if not isinstance(parent, str):
        raise _one(document, "wrong-type", "`extends` is the path of one file", place)
    target = (path.absolute().parent / parent).resolve()
    if target in seen or target == path.resolve():
        raise _one(document, "extends-cycle", f"`{parent}` extends this file again", place)
    if not target.is_file():
        raise _one(document, "file-missing", f"there is no file `{parent}` to extend", place)
    base = _extended(target, (*seen, path.resolve()))
    return _merge(base, document)


def _one(document: Document, code: str, message: str, place: Position) -> SpecError:
    return SpecError([Problem(code, message, place)], document.sources)


def _merge(base: Document, child: Document) -> Document:
    merged = Document(
        file=child.file, folders={**base.folders, **child.folders}, sources={**base.sources, **child.sources}
    )
    merged.keys.update(base.keys)
    merged.values.update(base.values)
    merged.data = _merged(base.data, child.data, (), merged, child)
    return merged


def _merged(old: Any, new: Any, key: Key, into: Document, child: Document) -> Any:
    if not _mergeable(old, new):
        _replace_places(into, child, key)
        return new
    into.values[key] = child.values[key]
    if key in child.keys:
        into.keys[key] = child.keys[key]
    result = dict(old)
    for name, value in new.items():
        place = (*key, name)
        if name in old:
            result[name] = _merged(old[name], value, place, into, child)
        else:
            _replace_places(into, child, place)
            result[name] = value
    return result


def _mergeable(old: Any, new: Any) -> bool:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    return "kind" not in new or new["kind"] == old.get("kind")


def _replace_places(into: Document, source: Document, key: Key) -> None:
    for table, new in ((into.keys, source.keys), (into.values, source.values)):
        for old in [known for known in table if known[: len(key)] == key]:
            del table[old]
        table.update({known: place for known, place in new.items() if known[: len(key)] == key})


def _override(document: Document, override: str) -> None:
    file = f"--set {override}"
    path, equals, text = override.partition("=")
    if not equals or not path:
        place = Position(file, 1, 1, len(override) + 1)
        raise SpecError([Problem("bad-override", "write `--set key.path=VALUE`", place)], {file: [override]})
    parsed = parse(f"value: {text}", file, Path.cwd())
    if set(parsed.data) != {"value"}:
        place = Position(file, 1, len(path) + 2, len(override) + 1)
        raise SpecError([Problem("bad-override", "`--set` takes one value on one line", place)], {file: [override]})
    key: Key = tuple(int(step) if step.isascii() and step.isdigit() else step for step in path.split("."))
    document.sources[file], document.folders[file] = [override], Path.cwd()
    _put(document, key, parsed.data.get("value"), Position(file, 1, 1, len(path) + 1), override)
    _place_override(document, key, parsed, shift=len(path) + 1 - len("value: "))


def _put(document: Document, key: Key, value: Any, place: Position, override: str) -> None:
    node: Any = document.data
    for depth, step in enumerate(key):
        last = depth == len(key) - 1
        if isinstance(node, list) and isinstance(step, int) and step < len(node):
            pass
        elif isinstance(node, dict) and isinstance(step, str):
            node.setdefault(step, {} if not last else None)
        else:
            what = ".".join(map(str, key[: depth + 1]))
            message = f"there is no place `{what}` in the spec"
            raise SpecError([Problem("bad-override", message, place)], {place.file: [override]})
        if last:
            node[step] = value
        else:
            if isinstance(node[step], str) and step != "kind":
                node[step] = {"kind": node[step]}  # `quantization: nf4` is short for its mapping
            node = node[step]


def _place_override(document: Document, key: Key, parsed: Document, shift: int) -> None:
    for table, new in ((document.keys, parsed.keys), (document.values, parsed.values)):
        for old in [known for known in table if known[: len(key)] == key]:
            del table[old]
        for known, place in new.items():
            if known[:1] == ("value",):
                table[key + known[1:]] = Position(
                    place.file, place.line, place.column + shift, place.end_column + shift
                )
    for depth in range(1, len(key)):  # mappings that the override made
        document.values.setdefault(key[:depth], document.values[key])
    document.keys[key] = Position(f"{document.values[key].file}", 1, 1, len(".".join(map(str, key))) + 1)
