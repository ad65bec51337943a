"""JSON Schema (draft 2020-12) of a whole spec, with the options of every backend that a host has.

The only module that imports every backend; one that cannot be imported is left out by name and takes nothing down.
Options are chosen by `if kind … then …`, so that an editor and `jsonschema` speak of the one backend that was meant.
A file that `extends` another may lack anything, so what is required stands apart, in definitions called `….whole`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from tunewright.discovery import entry_points
from tunewright.errors import TunewrightError
from tunewright.host import GROUP, Host
from tunewright.parts import PARTS, Backend
from tunewright.parts.base import library_version
from tunewright.spec.model import LISTS, SINGLE, Part, Spec

Json = dict[str, Any]
OURS = "tunewright"  # the distribution of the first-party plugins
ANY = "part"  # a part of which nobody says which contract fills it
EXTENDS: Json = {
    "type": ["string", "null"],
    "description": "Path of a spec that this one changes, relative to this file. Mappings merge; a list, and a "
    "mapping whose `kind` changes, are replaced.",
}
EXTENDING: Json = {"required": ["extends"], "properties": {"extends": {"type": "string"}}}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_MARK = "x-part"  # where a Part stands, until its contract is known
# field → contract: a part has the same name wherever it stands
_CONTRACTS = {**{str(key[-1]): part for part, (key, _) in SINGLE.items()}, **{str(key[-1]): p for p, key in LISTS}}


class Described(NamedTuple):
    """A schema, and why each backend (`trainer/sft` → reason) is in it by its kind alone."""

    schema: Json
    left_out: Mapping[str, str]


class _Kind(NamedTuple):
    """One backend: what its options may be, which of them must be, and what they refer to."""

    options: Json
    required: list[str]
    definitions: Json


class _Generator(GenerateJsonSchema):
    """Pydantic's own, without titles that repeat a name, and with a mark where a plugin's part stands."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> Json:
        found = super().model_schema(schema)
        found.pop("title", None)
        return found

    def function_plain_schema(self, schema: Any) -> Json:
        if schema["function"]["function"] == Part.read:
            return {_MARK: True}
        return super().function_plain_schema(schema)


def installed_schema(host: Host) -> Described:
    """The schema of everything that `host` has, with the versions of what made it."""
    described = _describe(host, "urn:tunewright:v1:installed")
    plugins = {
        entry.plugin: {"distribution": entry.distribution, "version": entry.version} for entry in host.table.values()
    }
    described.schema["x-tunewright"] = {"version": library_version(OURS), "plugins": dict(sorted(plugins.items()))}
    return described


def published_schema() -> Described:
    """The schema of the first-party plugins alone, without versions: what stands in specs/tunewright.schema.json."""
    host = first_party_host()
    described = _describe(host, "urn:tunewright:v1")
    described.schema["x-tunewright"] = {"plugins": sorted({entry.plugin for entry in host.table.values()})}
    return described


def first_party_host() -> Host:
    """A host without anyone else's plugins."""
    return Host(blocked={point.name for point in entry_points(GROUP) if point.distribution != OURS})


def to_text(schema: Json) -> str:
    """The schema as a file holds it: the same bytes for the same models."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def options_schema(options: type[BaseModel], prefix: str = "") -> Json:
    """The schema of one model: a backend's options, or the spec. What it refers to is called by `prefix` and name."""
    found = options.model_json_schema(schema_generator=_Generator, ref_template=f"#/$defs/{prefix}{{model}}")
    for node in _nodes(found):
        for bound in [name for name in _BOUNDS if isinstance(node.get(name), int | float)]:
            node[_BOUNDS[bound]] = node.pop(bound)  # pydantic has no word for the bounds of a union
        if node.get("default", ...) is None:
            del node["default"]  # an editor would offer to write it
    _place({"": found, **found.get("$defs", {})})
    return found


def summary(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def _describe(host: Host, name: str) -> Described:
    spec = options_schema(Spec)
    sections = {"spec": spec, **spec.pop("$defs", {})}
    left_out: dict[str, str] = {}
    definitions = {ANY: _any_part(), f"{ANY}.whole": {"required": ["kind"]}, **sections}
    for part in PARTS:
        definitions.update(_part(host, part, left_out))
    _place(definitions)
    _set_required_apart(sections, definitions)
    _name_engines(definitions)
    top = definitions.pop("spec")
    top["properties"] = {"extends": EXTENDS, **top["properties"]}
    head = {"$schema": _Generator.schema_dialect, "$id": name, "title": "Tunewright spec"}
    conditions = {"if": EXTENDING, "else": {"$ref": "#/$defs/spec.whole"}}
    return Described({**head, **top, **conditions, "$defs": _used(top, conditions, definitions)}, left_out)


def _any_part() -> Json:
    return {
        "description": "The kind, or `{kind: NAME, …}`.",
        "anyOf": [{"type": "string"}, {"type": "object", "properties": {"kind": {"type": "string"}}}],
    }


def _part(host: Host, part: str, left_out: dict[str, str]) -> Iterator[tuple[str, Json]]:
    """The definitions of a part: itself, what it must have, and each of its kinds."""
    kinds = {kind: _kind(host, part, kind, left_out) for kind in host.kinds(part)}
    about = summary(PARTS[part])
    bare = [kind for kind, found in kinds.items() if not found.required]
    bare_kinds = {"type": "string", "enum": bare, "description": "A kind with all its defaults."}
    full = _by_kind(part, kinds)
    yield part, {"description": about, **({"anyOf": [bare_kinds, full]} if bare else full)}
    cases = [_when(kind, {"required": found.required}) for kind, found in kinds.items() if found.required]
    yield f"{part}.whole", {"required": ["kind"], **({"allOf": cases} if cases else {})}
    for kind, found in kinds.items():
        yield f"{part}.{kind}", found.options
        yield from found.definitions.items()


def _by_kind(part: str, kinds: Mapping[str, _Kind]) -> Json:
    about = [found.options["description"] for found in kinds.values()]
    choice = {"description": f"Which {part.replace('_', ' ')}.", "enum": list(kinds), "enumDescriptions": about}
    cases = [_when(kind, {"$ref": f"#/$defs/{part}.{kind}"}) for kind in kinds]
    return {"type": "object", "properties": {"kind": choice}, **({"allOf": cases} if cases else {})}


def _when(kind: str, then: Json) -> Json:
    return {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": then}


def _kind(host: Host, part: str, kind: str, left_out: dict[str, str]) -> _Kind:
    try:
        return _options(host.backend(part, kind))
    except Exception as error:  # a stranger's module may raise anything: its kind stays allowed, and it is named
        why = error.message if isinstance(error, TunewrightError) else f"{type(error).__name__}: {error}"
        left_out[f"{part}/{kind}"] = why.partition("\n")[0]
        about = "Its options are not known: it could not be imported."
        return _Kind({"description": about, "type": "object", "additionalProperties": True}, [], {})


def _options(backend: type[Backend]) -> _Kind:
    prefix = f"{backend.part}.{backend.kind}."
    found = options_schema(backend.Options, prefix)
    required = [name for name in found.pop("required", []) if name != "kind"]
    definitions = {f"{prefix}{name}": schema for name, schema in found.pop("$defs", {}).items()}
    kind = {"const": backend.kind, "description": f"{backend.part.replace('_', ' ')} `{backend.kind}`"}
    found["properties"] = {"kind": kind, **{k: v for k, v in found["properties"].items() if k != "kind"}}
    found["description"] = summary(backend) or kind["description"]
    return _Kind(found, required, definitions)


def _place(definitions: Mapping[str, Json]) -> None:
    """Put the contract's definition where a part is marked, by the name of the field."""
    for definition in definitions.values():
        for name, schema in definition.get("properties", {}).items():
            part = _CONTRACTS.get(name, name if name in PARTS else ANY)
            for node in _nodes(schema):
                if node.pop(_MARK, False):
                    node["$ref"] = f"#/$defs/{part}"


def _nodes(node: Any) -> Iterator[Json]:
    """Every mapping of a schema, outermost first."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(inner)


def _set_required_apart(sections: Iterable[str], definitions: Json) -> None:
    """What a section must have moves to `<section>.whole`; the items of a list are never merged, so they have both."""
    names = [name for name in sections if "properties" in definitions[name]]
    merged = {f"#/$defs/{name}" for name in (ANY, *PARTS, *names)}
    for name in names:
        whole: Json = {"required": definitions[name].pop("required", []), "properties": {}}
        for field, schema in definitions[name]["properties"].items():
            for choice in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
                item = choice.get("items", {}).get("$ref")
                if item in merged:
                    choice["items"] = {"allOf": [choice["items"], {"$ref": f"{item}.whole"}]}
            for choice in (schema, *schema.get("anyOf", ())):
                if choice.get("$ref") in merged:
                    whole["properties"][field] = {"$ref": f"{choice['$ref']}.whole"}
        definitions[f"{name}.whole"] = whole


def _name_engines(definitions: Json) -> None:
    """A baseline has a key for each engine, which holds its options; and it is something: `{name: lonely}` is nothing.

    It stands in a list, whose items are never merged: what an engine must have, it must have here.
    """
    full = definitions["engine"].get("anyOf", [definitions["engine"]])[-1]
    names = full["properties"]["kind"]["enum"]
    cases = definitions["engine.whole"].get("allOf", ())
    must = {case["if"]["properties"]["kind"]["const"]: case["then"] for case in cases}
    found = definitions["Baseline"]
    for kind in names:
        own = {"$ref": f"#/$defs/engine.{kind}"}
        found["properties"][kind] = {"allOf": [own, must[kind]]} if kind in must else own
    for choice in found["properties"]["engine"]["anyOf"]:
        if "$ref" in choice:
            choice["allOf"] = [{"$ref": choice.pop("$ref")}, {"$ref": "#/$defs/engine.whole"}]
    found["anyOf"] = [{"required": [name]} for name in ("few_shot", "engine", *names)]


def _used(top: Json, conditions: Json, definitions: Json) -> Json:
    """The definitions that anything leads to, sorted by name."""
    found: set[str] = set()
    waiting = [top, conditions]
    while waiting:
        for node in _nodes(waiting.pop()):
            name = str(node.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in found:
                found.add(name)
                waiting.append(definitions[name])
    return {name: definitions[name] for name in sorted(found)}
