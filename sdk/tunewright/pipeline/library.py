"""What the libraries themselves say of their arguments: names, types and defaults, read from their signatures."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from tunewright.parts import Backend, Facts
from tunewright.parts.base import Argument, Finding, Json
from tunewright.spec.suggest import did_you_mean


def effective(backend: Backend, facts: Facts) -> dict[str, Argument]:
    """What a backend passes to its library, known before the run; the spec's arguments and ours."""
    return {**backend.arguments(), **backend.derive(facts)}


def everything(backend: Backend, facts: Facts) -> dict[str, Argument]:
    """Every effective argument of the library, also those that only the run knows and those that the library sets.

    A value that is an object of the library stands as its text. Raises `ImportError` where it is not installed.
    """
    passed = effective(backend, facts)
    found = {name: Argument(text, "tunewright") for name, text in backend.at_run.items()} | passed
    found |= backend.decide(facts)
    if backend.accepts:
        target = _target(backend)
        made = _made(target, passed)
        for name, parameter in inspect.signature(target).parameters.items():
            if name not in found and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                # a config may replace its own default once it is made: what it then holds is the truth
                found[name] = Argument(_plain(getattr(made, name, parameter.default)), "library")
    return found


def check_arguments(backend: Backend, facts: Facts) -> Iterator[Finding]:
    """Every name in `args:` is one of the library's own, its value of the type that stands there, and all go together.

    What goes together only the library's own config knows: it is made once, and what it refuses is a finding.
    """
    if not backend.accepts:
        return
    target = _target(backend)
    found = list(_unknown_or_mistyped(target, backend))
    yield from found
    if not found:
        try:
            _made(target, effective(backend, facts))
        except (TypeError, ValueError) as error:
            field = "args" if getattr(backend.options, "args", {}) else "kind"
            why = " ".join(str(error).split())
            yield Finding("bad-value", f"`{backend.accepts}` refuses its arguments: {why}", field)


def _made(target: Any, passed: Mapping[str, Argument]) -> Any:
    """The library's config of what is known before the run; None where the arguments go to no config."""
    if not dataclasses.is_dataclass(target):
        return None
    make: Any = target
    return make(**{name: argument.value for name, argument in passed.items()})


def _unknown_or_mistyped(target: Any, backend: Backend) -> Iterator[Finding]:
    known, types = inspect.signature(target).parameters, get_type_hints(target)
    for name, value in getattr(backend.options, "args", {}).items():
        field = f"args.{name}"
        if name not in known:
            message = f"`{name}` is not an argument of `{backend.accepts}`"
            yield Finding("unknown-argument", message, field, did_you_mean(name, known), at_key=True)
        elif why := _mistyped(value, types.get(name, Any)):
            yield Finding("wrong-type", f"`{name}`: {why}", field)


def _target(backend: Backend) -> Any:
    module, _, name = backend.accepts.partition(":")
    return getattr(importlib.import_module(module), name)


def _plain(value: Any) -> Json:
    if value is inspect.Parameter.empty:
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return getattr(value, "value", value)  # an enumeration of texts is a text
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)


def _mistyped(value: Any, annotation: Any) -> str:
    """Why a value is not of a library's annotated type; empty where it is, or where that cannot be checked."""
    try:
        TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']}; {name_of(annotation)} is expected"
    except PydanticSchemaGenerationError:
        return ""
    return ""


def name_of(annotation: Any) -> str:
    """A type as a person writes it."""
    if inspect.isclass(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")
