"""docs/reference/spec.md: every field of the spec and of each first-party backend's options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.host import Host
from tunewright.parts import PARTS, Backend, Secret, SpecPath, To
from tunewright.reference.text import item, page, prose
from tunewright.reference.words import shown, words
from tunewright.schema import first_party_host, options_schema, published_schema, summary

ABOUT = """
A part of a spec is `{kind: NAME, …}`, or the kind alone where its defaults will do. A field that is not required and
has no default named here is off unless it is written. An arrow leads to the library's own argument; any other field is
read by the backend's code, or by Tunewright for every backend of the part. A field that is not here is an error. The
same for machines: `specs/tunewright.schema.json`, or `tunewright schema` for everything that is installed; see
[how to check specs](../how-to/check-specs.md).
"""
SPECIAL: Mapping[type, str] = {SpecPath: "path", Secret: "text with `${env:NAME}` in it, never the secret itself"}


def spec_page() -> str:
    """The file, its sections, and each part with its kinds."""
    schema = published_schema().schema
    sections = ["## The file", _section(schema, schema["$defs"]["spec.whole"].get("required", []))]
    for name, found in schema["$defs"].items():
        if "." not in name and name not in PARTS and "properties" in found:
            required = schema["$defs"].get(f"{name}.whole", {}).get("required", [])
            sections += [f"## {name}", prose(found["description"]), _section(found, required)]
    host = first_party_host()
    for part, contract in PARTS.items():
        sections += [f"## {part}", prose(summary(contract)), *_kinds(part, host)]
    return page("The spec", ABOUT, sections)


def _section(schema: Mapping[str, Any], required: list[str]) -> str:
    return "\n".join(_field(name, found, name in required) for name, found in schema["properties"].items())


def _kinds(part: str, host: Host) -> Iterator[str]:
    for kind in host.kinds(part):
        backend = host.backend(part, kind)
        yield f"### {part.replace('_', ' ')} `{kind}`"
        yield prose(summary(backend))
        found = list(_options(backend))
        yield "\n".join(found) if found else "No options."


def _options(backend: type[Backend]) -> Iterator[str]:
    schema = options_schema(backend.Options)
    for name, found in schema["properties"].items():
        if name != "kind":
            info = backend.Options.model_fields[name]
            special = [text for made, text in SPECIAL.items() if _holds(info.annotation, made)]
            marks = [mark.argument for mark in info.metadata if isinstance(mark, To)]
            yield _field(name, found, info.is_required(), special[0] if special else "", _goes(marks, backend))


def _goes(marks: list[str], backend: type[Backend]) -> str:
    library = backend.accepts.partition(":")[2]
    of = f" of `{library}`" if library else ""
    return f" → `{marks[0]}`{of}" if marks else ""


def _holds(annotation: Any, made: type) -> bool:
    return annotation is made or made in getattr(annotation, "__args__", ())


def _field(name: str, schema: Mapping[str, Any], required: bool, special: str = "", goes: str = "") -> str:
    head = f"**`{name}`**: {special or words(schema)}"
    if required:
        head += "; required"
    elif schema.get("default") is not None and not isinstance(schema["default"], dict):
        head += f"; by default {shown(schema['default'])}"
    return item(f"{head}{goes}. {schema.get('description', '')}".strip())
