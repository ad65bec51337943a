"""Pydantic's errors as problems with a place: used for the spec itself and for each part's options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tunewright.spec.document import Document, Key
from tunewright.spec.model import API_VERSION, Spec
from tunewright.spec.problems import Problem
from tunewright.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_CODES = {
    "extra_forbidden": "unknown-key",
    "missing": "missing-key",
    "literal_error": "bad-value",
    "enum": "bad-value",
    "string_pattern_mismatch": "bad-value",
    "value_error": "bad-value",
    "part": "wrong-type",
    "too_short": "empty-list",
    "secret_in_spec": "secret-in-spec",
}
_FIXES = {"secret-in-spec": "write `${env:NAME}`, and set NAME in the environment"}


def check_spec(document: Document) -> tuple[Spec | None, list[Problem]]:
    """The document as a `Spec`, or every problem of its own keys."""
    version = document.data.get("apiVersion")
    if version is not None and version != API_VERSION:
        message = f"`{version}` is not an apiVersion that this release reads"
        place = document.at(("apiVersion",))
        return None, [Problem("unknown-api-version", message, place, f"known: `{API_VERSION}`")]
    try:
        return Spec.model_validate(document.data), []
    except ValidationError as error:
        return None, problems_of(error, Spec, document, (), "the spec")


def problems_of(
    error: ValidationError, model: type[BaseModel], document: Document, key: Key, owner: str
) -> list[Problem]:
    """Each of Pydantic's errors as a problem, placed at the key or the value it is about."""
    found: dict[Key, Problem] = {}
    for detail in error.errors(include_url=False):
        problem = _problem(detail, model, document, key, owner)
        written = _written(detail["loc"], document, key)
        if detail["type"] == "missing":
            written = (*written, detail["loc"][-1])
        # a value that fits no branch of a union is one mistake, not one a branch
        found.setdefault(written[:2] if key else written, problem)
    return list(found.values())


def _problem(detail: ErrorDetails, model: type[BaseModel], document: Document, key: Key, owner: str) -> Problem:
    code = _CODES.get(detail["type"], "")
    if not code:
        code = "wrong-type" if detail["type"].endswith(("_type", "_parsing")) else "out-of-range"
    make = _MAKERS.get(code, _wrong_value)
    written = _written(detail["loc"], document, key)
    if code == "missing-key":
        written = (*written, detail["loc"][-1])
    return make(code, detail, model, document, (*key, *written), owner)


def _written(location: tuple[int | str, ...], document: Document, key: Key) -> Key:
    """Pydantic's way to a value without the names of union branches, which nobody wrote."""
    found: Key = ()
    for step in location:
        if (*key, *found, step) in document.values:
            found = (*found, step)
    return found


def _unknown_key(
    code: str, detail: ErrorDetails, model: type[BaseModel], document: Document, key: Key, owner: str
) -> Problem:
    known = _fields(model, detail["loc"][:-1])
    where = owner if len(detail["loc"]) == 1 else f"`{'.'.join(map(str, detail['loc'][:-1]))}`"
    message = f"`{key[-1]}` is not an option of {where}"
    return Problem(code, message, document.at(key, prefer_key=True), did_you_mean(str(key[-1]), known))


def _missing_key(
    code: str, detail: ErrorDetails, model: type[BaseModel], document: Document, key: Key, owner: str
) -> Problem:
    place = document.at(key[:-1], prefer_key=True)
    return Problem(code, f"{owner} needs `{'.'.join(map(str, detail['loc']))}`", place, f"add `{key[-1]}:`")


def _wrong_value(
    code: str, detail: ErrorDetails, model: type[BaseModel], document: Document, key: Key, owner: str
) -> Problem:
    message = detail["msg"].removeprefix("Value error, ")
    name = key[-1] if key else owner
    if code == "wrong-type" and detail["type"] != "part":
        message = f"`{name}` is {_shown(detail['input'])}: {message[0].lower()}{message[1:]}"
    elif detail["loc"]:
        message = f"`{name}`: {message[0].lower()}{message[1:]}"
    suggestion = _FIXES.get(code, "")
    expected = (detail.get("ctx") or {}).get("expected")
    if detail["type"] == "literal_error" and isinstance(expected, str) and isinstance(detail["input"], str):
        suggestion = did_you_mean(
            detail["input"], [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        )
    return Problem(code, message, document.at(key), suggestion)


_Maker = Callable[[str, "ErrorDetails", type[BaseModel], Document, Key, str], Problem]
_MAKERS: Mapping[str, _Maker] = {"unknown-key": _unknown_key, "missing-key": _missing_key}


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return f"`{text[:40]}…`" if len(text) > 41 else f"`{text}`"


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> Collection[str]:
    for step in location:
        info = model.model_fields.get(str(step))
        annotation = info.annotation if info else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return [info.alias or name for name, info in model.model_fields.items()]
