"""Two values of a field: those that a backend's `vary` names, or ones that the field's own schema allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from tunewright.parts import Backend, SpecPath

NOWHERE = "there-is-no-such-file"


def variations(backend: type[Backend], given: Mapping[str, Any], name: str) -> list[tuple[Any, Any]]:
    """Pairs of options that differ in the field `name` alone and that its Options take; none where none are known.

    `vary` gives exactly one pair. Without it, the value that the options have is set against up to three others.
    """
    if name in backend.vary:
        first, second = (read(backend, {**given, name: value}) for value in backend.vary[name])
        return [] if first is None or second is None else [(first, second)]
    current = read(backend, given)
    was = getattr(current, name, None)
    if isinstance(was, SpecPath):
        return [(current, read(backend, {**given, name: f"{was.path}-{NOWHERE}"}))]
    if isinstance(was, list) and was and isinstance(was[-1], BaseModel):  # entries of options: one of them more
        return [(current, read(backend, {**given, name: [*was, was[-1]]}))]
    others = (read(backend, {**given, name: value}) for value in _allowed(backend, name, was))
    return [(current, other) for other in others if other is not None and getattr(other, name) != was][:3]


def read(backend: type[Backend], given: Mapping[str, Any]) -> Any:
    """The options, or None where its Options refuse them."""
    try:
        return backend.Options.model_validate(dict(given))
    except ValidationError:
        return None


def _allowed(backend: type[Backend], name: str, current: Any) -> Iterator[Any]:
    whole = backend.Options.model_json_schema()
    yield from _values(whole["properties"][name], whole.get("$defs", {}), current)


def _values(schema: Mapping[str, Any], named: Mapping[str, Any], current: Any) -> Iterator[Any]:
    """Values that a JSON schema allows, the likeliest to make a difference first."""
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _values(one, named, current)
    if "const" in schema:
        yield schema["const"]
    yield from schema.get("enum", ())
    kind = schema.get("type")
    if kind == "boolean":
        yield from (False, True)
    elif kind in ("integer", "number"):
        yield from _numbers(schema, current, whole=kind == "integer")
    elif kind == "string" and "enum" not in schema and "const" not in schema:
        longest = schema.get("maxLength", 99)
        yield from (text[:longest] for text in ("one text", "another text"))
    elif kind == "array":
        inner = list(_values(schema.get("items", {}), named, None))
        yield from ([value] for value in inner)
        yield []
    elif kind == "null":
        yield None


def _numbers(schema: Mapping[str, Any], current: Any, *, whole: bool) -> Iterator[Any]:
    """The bounds and some values between; what lies outside them, Options refuse."""
    of = current if isinstance(current, (int, float)) and not isinstance(current, bool) else 1
    steps = [of * 2, of + 1, of - 1, of / 2, 0, 1, *(() if whole else (0.5, 0.1))]
    bounds = [schema[bound] for bound in ("minimum", "maximum") if bound in schema]
    yield from (int(value) if whole else float(value) for value in (*bounds, *steps))
