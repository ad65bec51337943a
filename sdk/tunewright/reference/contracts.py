"""docs/reference/parts.md, from the modules of `tunewright.parts`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

from tunewright.parts import PARTS, Backend, Options
from tunewright.reference.source import Method, Value, classes, methods, values
from tunewright.reference.text import code, item, page, prose

ABOUT = """
A backend is a class that fills one part of a spec: it subclasses the part's contract, sets `kind` and `Options`, and
writes what is listed as *to write*. What it *may write* has a default; what is *given* is not to be changed. The
fields of the contracts' options are in [the spec's page](spec.md).
"""


def parts_page() -> str:
    """Each contract: what to write, what may be written, and the types that go in and out."""
    base = sys.modules[Backend.__module__]
    sections = [*_section("Every backend", Backend, base)]
    for part, contract in PARTS.items():
        sections += _section(part, contract, sys.modules[contract.__module__])
    return page("Parts", ABOUT, sections)


def _section(title: str, contract: type, module: ModuleType) -> Iterator[str]:
    yield f"## {title}: `{contract.__module__}.{contract.__name__}`"
    yield prose(module.__doc__ or "")
    yield from _class(contract)
    for thing in classes(module):
        # options with fields are the spec's page; the two bases belong here
        if thing is not contract and (not issubclass(thing, Options) or module.__name__ == Options.__module__):
            yield f"### `{thing.__name__}`"
            yield from _class(thing)
    yield from _names(module)


def _class(thing: type) -> Iterator[str]:
    yield prose(thing.__doc__ or "")
    # what options hold is the spec's page
    found = [_value(value) for value in values(thing)] if not issubclass(thing, Options) else []
    if found:
        yield "\n".join(found)
    groups: dict[str, list[Method]] = {}
    for method in methods(thing):
        groups.setdefault(_group(method, issubclass(thing, Backend)), []).append(method)
    for title in ("To write:", "May be written:", "Given:", "Methods:"):
        if title in groups:
            yield title
            yield from _methods(groups[title])


def _value(value: Value) -> str:
    return item(f"`{value.text}`" + (f": {value.doc}" if value.doc else ""))


def _group(method: Method, contract: bool) -> str:
    if not contract:
        return "Methods:"
    return "To write:" if "abstractmethod" in method.decorators else (
        "Given:" if "final" in method.decorators else "May be written:"
    )  # fmt: skip


def _methods(found: list[Method]) -> Iterator[str]:
    for method in found:
        yield code(method.signature)
        yield prose(method.doc)


def _names(module: ModuleType) -> Iterator[str]:
    """Aliases and functions that a plugin uses; what the base module computes is the core's."""
    aliases = [value for value in values(module) if value.text[0].isupper() and "TypeVar" not in value.text]
    functions = list(methods(module)) if module.__name__ != Options.__module__ else []
    if aliases or functions:
        yield "### Names beside it"
    if aliases:
        yield "\n".join(_value(value) for value in aliases)
    yield from _methods(functions)
