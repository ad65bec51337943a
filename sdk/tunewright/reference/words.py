"""What a value may be, in words, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tunewright.parts import PARTS

Json = Mapping[str, Any]
LONGEST_PATTERN = 32  # characters: a longer one says nothing to a reader


def words(schema: Json) -> str:
    """`whole number above 0`, `one of …`, `list of text`."""
    if "$ref" in schema:
        return _reference(schema["$ref"].removeprefix("#/$defs/"))
    if "allOf" in schema:
        return words(schema["allOf"][0])
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives is not None:
        choices = dict.fromkeys(words(choice) for choice in alternatives if choice.get("type") != "null")
        if "number" in choices:
            choices.pop("whole number", None)
        return " or ".join(choices) + _bounds(schema)
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(shown(value) for value in schema["enum"])
    kinds = [kind for kind in _listed(schema.get("type", [])) if kind != "null"]
    return " or ".join(_TYPES[kind](schema) for kind in kinds) or "any value"


def shown(value: Any) -> str:
    """A value as a spec holds it."""
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _listed(kind: str | list[str]) -> list[str]:
    return kind if isinstance(kind, list) else [kind]


def _reference(name: str) -> str:
    title = name.rpartition(".")[2]
    return f"[{title}](#{title.lower()})" if title in PARTS else f"mapping, see [{title}](#{title.lower()})"


def _text(schema: Json) -> str:
    if schema.get("minLength") == schema.get("maxLength") == 1:
        return "one character"
    pattern = schema.get("pattern", "")
    if len(pattern) > LONGEST_PATTERN:
        return "text of a set form (its pattern is in the schema)"
    return f"text matching `{pattern}`" if pattern else "text"


def _bounds(schema: Json) -> str:
    said = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    found = [f"{word} {schema[name]}" for name, word in said.items() if name in schema]
    return " " + " and ".join(found) if found else ""


def _list(schema: Json) -> str:
    return f"list of {words(schema.get('items', {}))}" + (", at least one" if schema.get("minItems") == 1 else "")


def _mapping(schema: Json) -> str:
    values = schema.get("additionalProperties")
    return "mapping of names to " + (words(values) if isinstance(values, dict) else "any value")


_TYPES: Mapping[str, Callable[[Json], str]] = {
    "string": _text,
    "integer": lambda schema: "whole number" + _bounds(schema),
    "number": lambda schema: "number" + _bounds(schema),
    "boolean": lambda _: "true or false",
    "array": _list,
    "object": _mapping,
}
