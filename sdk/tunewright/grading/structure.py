"""Answers that are to be JSON, or a list of names: found, held against a schema, compared field by field."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

FENCE = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)```", re.DOTALL)
DEEPEST = 50
"""Levels of a value that are compared: what is nested deeper is compared as text."""


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_number)


def find_object(answer: str) -> dict[str, Any] | None:
    """The first JSON object in an answer, of the first fenced block that has one, else of the whole; None without one.

    What stands around it does not count. An object that breaks off is none; what it holds is not looked into.
    """
    for text in (*FENCE.findall(answer), answer):
        start = text.find("{")
        while start >= 0:
            try:
                found, _ = DECODER.raw_decode(text, start)
            except json.JSONDecodeError as error:
                if error.pos >= len(text.rstrip()):  # it broke off: an inner object would be another answer
                    break
                start = text.find("{", start + 1)
            except (ValueError, RecursionError):
                break
            else:
                return dict(found)
    return None


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Why a JSON schema is none, or cannot be followed: a `$ref` leads to elsewhere, nowhere or back to itself.

    None for one that is sound: `is_valid` then answers for every value.
    """
    import jsonschema

    try:
        _draft(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        return str(error.message)
    return next(_lost(schema), None)


def _lost(schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with each `$ref` that cannot be followed, in all the schemas that a schema is made of."""
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    dialect = _draft(schema).META_SCHEMA["$schema"]
    root: Resource[Any] = specification_with(dialect, default=DRAFT202012).create_resource(schema)
    left = [(root, REGISTRY.resolver_with_root(root))]
    while left:
        resource, resolver = left.pop()
        left += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
        passed, found = list[str](), resource.contents
        while (ref := _ref(found)) is not None:
            try:
                resolved = resolver.lookup(ref)
            except (Unresolvable, ValueError):
                yield f"its `$ref` {ref!r} leads to nothing within it, and nothing is fetched"
                break
            if len(passed) == DEEPEST:
                yield f"its `$ref` {passed[0]!r} leads back to itself"
                break
            passed.append(ref)
            found, resolver = resolved.contents, resolved.resolver


def _ref(schema: object) -> str | None:
    found = schema.get("$ref") if isinstance(schema, Mapping) else None
    return found if isinstance(found, str) else None


def is_valid(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value keeps a JSON schema, of the draft that its `$schema` names, else of 2020-12.

    Nothing is fetched: a `$ref` to elsewhere raises `referencing.exceptions.Unresolvable`. `format` is not checked.
    """
    from referencing.jsonschema import EMPTY_REGISTRY

    return bool(_draft(schema)(schema, registry=EMPTY_REGISTRY).is_valid(value))


def _draft(schema: Mapping[str, Any]) -> Any:
    import jsonschema  # late: `validate` waits for no library

    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)


def field_f1(said: object, wanted: object) -> float:
    """F1 over the fields of two values, each a place and what stands there; 0 to 1.

    `{"a": {"b": 1}, "c": ["x", "y"]}` has the fields a.b = 1, c[] = x and c[] = y. Plain values of a list have no
    order, objects in one keep theirs. Capitals and white space around texts do not count; 3 is 3.0, and no text.
    """
    ours, theirs = Counter(fields(said)), Counter(fields(wanted))
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 1.0


def fields(value: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every place of a value with what stands there, as comparable text. An empty object or list is a field too."""
    if isinstance(value, Mapping) and value and depth < DEEPEST:
        for key, inner in value.items():
            yield from fields(inner, f"{place}.{key}", depth + 1)
    elif isinstance(value, list) and value and depth < DEEPEST:
        for number, inner in enumerate(value):
            nested = isinstance(inner, (Mapping, list))
            yield from fields(inner, f"{place}[{number}]" if nested else f"{place}[]", depth + 1)
    else:
        yield place, _leaf(value)


def _leaf(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(" ".join(value.casefold().split()))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if value is None or isinstance(value, (bool, int, float)) else repr(value)


def names(answer: str) -> frozenset[str]:
    """The names that an answer lists, parted by commas, semicolons, lines or `and`; bullets and quotes do not count.

    They are put in small letters, with underscores for spaces and hyphens. A JSON list of texts is a list as well.
    """
    parts = re.split(r"[,;\n]|\band\b", answer.strip().strip("[]"))
    plain = (re.sub(r"[\s_-]+", "_", re.sub(r"^\s*(?:[-*•]|\d+[.)])\s", "", part).strip(" .*`\"'[]")) for part in parts)
    return frozenset(name.casefold().strip("_") for name in plain if name.strip("_"))


def names_f1(said: Iterable[str], wanted: Sequence[str]) -> float:
    """F1 over two sets of names as `names` writes them, 0 to 1; 1 where both are empty."""
    ours, theirs = frozenset(said), frozenset(name for one in wanted for name in names(one))
    total = len(ours) + len(theirs)
    return 2 * len(ours & theirs) / total if total else 1.0
