"""A spec from its file, the files it extends, and the values set on the command line: one document.

`extends: base.yaml` merges mappings; lists, and a mapping whose `kind` changes, are replaced. `--set a.b=VALUE` takes
YAML and numbers lists' places; its problems stand in the file `--set a.b=VALUE`. `--set trainer.epochs=null` takes an
option of a part out of the files, unless null is a value of its own there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tunewright.spec.compose import lines_of
from tunewright.spec.document import Document, Key, parse_value, read
from tunewright.spec.problems import Position, Problem, SpecError

OVERRIDE = "--set "
"""What the name of an override's own file begins with."""


def load(path: Path, overrides: Iterable[str] = ()) -> Document:
    """The document of a spec, `extends` and `--set` applied; what is wrong and can be read past is in `problems`.

    Raises `SpecError` where a file cannot be read.
    """
    document = _extended(path)
    for override in overrides:
        try:
            _override(document, override)
        except SpecError as error:
            document.problems += error.problems
            document.sources.update(error.sources)
    return document


def _extended(path: Path) -> Document:
    chain = [read(path)]
    seen = [path.resolve()]
    while (target := _parent(chain[-1], seen)) is not None:
        try:
            chain.append(read(target))
        except SpecError as error:
            found = [problem for document in chain for problem in document.problems]
            sources = {file: lines for document in chain for file, lines in document.sources.items()}
            raise SpecError([*found, *error.problems], {**sources, **error.sources}) from error
        seen.append(target)
    document = chain.pop()
    while chain:
        document = _merge(document, chain.pop())
    return document


def _parent(document: Document, seen: list[Path]) -> Path | None:
    """The file that a document extends, None where it extends none."""
    if "extends" not in document.data:
        return None
    parent, place = document.data.pop("extends"), document.at(("extends",))
    if not isinstance(parent, str) or not parent:
        raise _one(document, "wrong-type", "`extends` is the path of one file", place)
    target = (seen[-1].parent / parent).resolve()
    if target in seen:
        raise _one(document, "extends-cycle", f"`{parent}` extends this file again", place)
    if not target.exists():
        raise _one(document, "file-missing", f"there is no file `{parent}` to extend", place)
    return target


def _one(document: Document, code: str, message: str, place: Position) -> SpecError:
    return SpecError([*document.problems, Problem(code, message, place)], document.sources)


def _merge(base: Document, child: Document) -> Document:
    replaced: set[Key] = set()
    data = _merged(base.data, child.data, (), replaced)
    return Document(
        data=data,
        keys={**dict(_kept(base.keys, replaced)), **child.keys},
        values={**dict(_kept(base.values, replaced)), **child.values},
        folders={**base.folders, **child.folders},
        sources={**base.sources, **child.sources},
        problems=[*base.problems, *child.problems],
        file=child.file,
    )


def _merged(old: Any, new: Any, key: Key, replaced: set[Key]) -> Any:
    if not _mergeable(old, new):
        replaced.add(key)
        return new
    result = dict(old)
    for name, value in new.items():
        result[name] = _merged(old[name], value, (*key, name), replaced) if name in old else value
    return result


def _mergeable(old: Any, new: Any) -> bool:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    return "kind" not in new or new["kind"] == old.get("kind")


def _kept(places: dict[Key, Position], replaced: set[Key]) -> Iterator[tuple[Key, Position]]:
    """The places of a base that no replaced value hides."""
    for key, place in places.items():
        if not any(key[:depth] in replaced for depth in range(len(key) + 1)):
            yield key, place


def _override(document: Document, override: str) -> None:
    file = f"{OVERRIDE}{override}"
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise _bad(file, override, "write `--set key.path=VALUE`", Position(file, 1, 1, len(override) + 1))
    if len(lines_of(override)) > 1:
        raise _bad(file, override, "`--set` takes one value on one line", Position(file, 1, 1, len(path) + 1))
    # read behind as many spaces as the path is long, so that columns are those of the whole override
    parsed, value = parse_value(f"{' ' * (len(path) + 1)}{text}", file, Path.cwd())
    parsed.sources[file] = [override]
    if parsed.problems:
        raise SpecError(parsed.problems, parsed.sources)
    key: Key = tuple(int(step) if step.isascii() and step.isdigit() and len(step) < 9 else step
                     for step in path.split("."))  # fmt: skip
    document.sources[file], document.folders[file] = [override], Path.cwd()
    _put(document, key, value, Position(file, 1, 1, len(path) + 1), override)
    _place_override(document, key, parsed, Position(file, 1, 1, len(path) + 1))


def _bad(file: str, override: str, message: str, place: Position) -> SpecError:
    return SpecError([Problem("bad-override", message, place)], {file: [override]})


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
            raise _bad(place.file, override, f"there is no place `{what}` in the spec", place)
        if last:
            node[step] = value
        else:
            if isinstance(node[step], str) and step != "kind":
                node[step] = {"kind": node[step]}  # `quantization: nf4` is short for its mapping
            node = node[step]


def _place_override(document: Document, key: Key, parsed: Document, path: Position) -> None:
    for table, new in ((document.keys, parsed.keys), (document.values, parsed.values)):
        for old in [known for known in table if known[: len(key)] == key]:
            del table[old]
        table.update({(*key, *known): place for known, place in new.items()})
    document.values.setdefault(key, path)  # nothing behind the `=`
    for depth in range(1, len(key)):  # mappings that the override made
        document.values.setdefault(key[:depth], document.values[key])
    document.keys[key] = path
