"""Pydantic's errors as problems with a place: used for the spec itself and for each part's options."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from tunewright.spec.compose import short
from tunewright.spec.document import Document, Key
from tunewright.spec.model import API_VERSION, Spec
from tunewright.spec.problems import Problem
from tunewright.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
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


MOST_SUGGESTED = 50  # problems of one mapping: comparing thousands of words would take seconds
_SENTENCES = {
    "model_type": "a mapping of keys to values is needed",
    "model_attributes_type": "a mapping of keys to values is needed",
    "dict_type": "a mapping of keys to values is needed",
    "list_type": "a list is needed",
}
_WORDS_OF_YES_AND_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


Likely = Callable[[Key], str]
"""What to write at a place where nothing stands, as a phrase; empty where nothing is known but its name."""


def check_spec(document: Document, likely: Likely = lambda key: "") -> tuple[Spec | None, list[Problem]]:
    """The document as a `Spec`, and every problem of its text and its own keys; None where the keys make none.

    `likely` knows more of what is missing than its name, as what a file of rows looks like.
    """
    problems = list(dict.fromkeys(document.problems))  # what stands behind an alias is found once an alias
    version = document.data.get("apiVersion")
    if version is not None and version != API_VERSION:
        message = f"{_shown(version)} is not an apiVersion that this release reads"
        place = document.at(("apiVersion",))
        return None, [*problems, Problem("unknown-api-version", message, place, f"known: `{API_VERSION}`")]
    try:
        return Spec.model_validate(document.data), problems
    except ValidationError as error:
        return None, [*problems, *problems_of(error, Spec, document, (), "the spec", likely)]


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    key: Key,
    owner: str,
    likely: Likely = lambda key: "",
) -> list[Problem]:
    """Each of Pydantic's errors as a problem, placed at the key or the value it is about."""
    found: dict[Key, Problem] = {}
    known = {problem.position for problem in document.problems}
    for detail in error.errors(include_url=False):
        written = _written(detail["loc"], document, key)
        if detail["type"] in ("missing", "extra_forbidden"):
            written = (*_written(detail["loc"][:-1], document, key), detail["loc"][-1])
        # a value that fits no branch of a union is one mistake, not one a branch
        group = written[:2] if key else written
        if group not in found:
            suggests = len(found) < MOST_SUGGESTED
            mistake = _Mistake(detail, model, document, (*key, *written), owner, suggests, written[:-1], likely)
            found[group] = mistake.problem()
    # a value that could not be read is one mistake
    return [problem for problem in found.values() if problem.position not in known]


def _written(location: tuple[int | str, ...], document: Document, key: Key) -> Key:
    """Pydantic's way to a value without the names of union branches, which nobody wrote."""
    found: Key = ()
    for step in location:
        if (*key, *found, step) in document.values:
            found = (*found, step)
    return found


class _Mistake(NamedTuple):
    """One of Pydantic's errors, and where in the document it stands."""

    detail: ErrorDetails
    model: type[BaseModel]
    document: Document
    key: Key
    owner: str
    suggests: bool
    inner: Key
    """The way from the owner to the mapping that it is in, as it was written."""
    likely: Likely

    def problem(self) -> Problem:
        kind = self.detail["type"]
        code = _CODES.get(kind, "") or ("wrong-type" if kind.endswith(("_type", "_parsing")) else "out-of-range")
        if code == "unknown-key":
            return self.unknown_key()
        if code == "missing-key":
            return self.missing_key(self.key[:-1], str(self.detail["loc"][-1]))
        return self.part() if kind == "part" else self.wrong_value(code)

    def unknown_key(self) -> Problem:
        inner, word = self.inner, str(self.key[-1])
        where = f"`{'.'.join(map(str, inner))}`" if inner else self.owner
        message = f"`{short(word)}` is not an option of {where}"
        place = ".".join(step for step in self.key[:-1] if isinstance(step, str))
        fix = did_you_mean(word, _fields(self.model, inner), place) if self.suggests else ""
        return Problem("unknown-key", message, self.document.at(self.key, prefer_key=True), fix)

    def missing_key(self, mapping: Key, name: str) -> Problem:
        message = f"{self.owner} needs `{'.'.join(map(str, (*self.inner, name)))}`"
        fix = f"add `{name}: {API_VERSION}`" if name == "apiVersion" else self.likely(self.key) or f"add `{name}:`"
        return Problem("missing-key", message, self.document.at(mapping, prefer_key=True), fix)

    def part(self) -> Problem:
        """A part that is no kind and no mapping with one."""
        value, key = self.detail["input"], self.key
        name = next((str(step) for step in reversed(key) if isinstance(step, str)), self.owner)
        if isinstance(value, dict) and "kind" not in value:
            fix = "here `type` is called `kind`" if "type" in value else "add `kind:`"
            return Problem("missing-key", f"`{name}` needs `kind`", self.document.at(key, prefer_key=True), fix)
        if isinstance(value, dict):
            key, value = (*key, "kind"), value["kind"]
        message = f"`{key[-1] if key[-1:] == ('kind',) else name}` is {_shown(value)}: a kind's name is needed"
        empty = "write `none`" if name in ("adapter", "quantization") else self.likely(key)
        fix = empty if value is None else ""
        return Problem("wrong-type", message, self.document.at(key), fix)

    def wrong_value(self, code: str) -> Problem:
        detail, value = self.detail, self.detail["input"]
        message = _SENTENCES.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        name = next((step for step in reversed(self.key) if isinstance(step, str)), self.owner)  # of an entry, the list
        if code == "wrong-type":
            message = f"`{name}` is {_shown(value)}: {message[0].lower()}{message[1:]}"
        elif detail["loc"]:
            message = f"`{name}`: {message[0].lower()}{message[1:]}"
        return Problem(code, message, self.document.at(self.key), _FIXES.get(code) or self.fix())

    def fix(self) -> str:
        kind, value = self.detail["type"], self.detail["input"]
        if kind == "literal_error":
            words = _allowed(str((self.detail.get("ctx") or {}).get("expected", "")))
            return did_you_mean(value, words) if isinstance(value, str) else f"known: {', '.join(words)}"
        if value is None:
            return self.filled()
        if kind == "list_type":
            return "put it in a list: `[…]`"
        if kind in ("bool_type", "bool_parsing"):
            word = _WORDS_OF_YES_AND_NO.get(str(value).lower(), "")
            return f"write `{word}`" if word else ""
        if kind in ("float_type", "int_type") and isinstance(value, str):
            return "write it without quotes" if _is_number(value) else ""
        return self.quoted(value) if kind in ("string_type", "path_type") else ""

    def filled(self) -> str:
        """Of what is empty: that it may be left out, and what it is then."""
        name = str(self.key[-1]) if self.key else ""
        field = _field(self.model, (*self.inner, name))
        if field is None or field.is_required():
            return "write a value"
        simple = isinstance(field.default, str | int | float)
        default = f": it is `{json.dumps(field.default)}` then" if simple else ""
        return f"write a value, or leave `{name}` out{default}"

    def quoted(self, value: Any) -> str:
        """Where a text is needed: what YAML took for something else, in quotes."""
        if isinstance(value, list):
            return ""
        place = self.document.at(self.key)
        lines = self.document.sources.get(place.file, ())
        shown = lines[place.line - 1][place.column - 1 : place.end_column - 1] if place.line <= len(lines) else ""
        if isinstance(value, dict):
            return f'put it in quotes: `"{shown}"`' if shown.startswith("{") and shown.endswith("}") else ""
        return f'put it in quotes: `"{shown}"`' if shown and len(shown) <= 40 else "put it in quotes"


def _allowed(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list):  # what it holds is shown by its line, and may be a secret
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return f"`{text[:40]}…`" if len(text) > 41 else f"`{text}`"


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> Collection[str]:
    for step in location:
        info = model.model_fields.get(str(step))
        model = next(_models(info.annotation), model) if info else model
    return [info.alias or name for name, info in model.model_fields.items()]


def _field(model: type[BaseModel], location: Key) -> FieldInfo | None:
    """The field at the end of a way through mappings and lists, by the name that a spec gives it."""
    found = None
    for step in location:
        if isinstance(step, int):
            continue
        found = next((one for name, one in model.model_fields.items() if step == (one.alias or name)), None)
        if found is None:
            return None
        model = next(_models(found.annotation), model)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, also those of a list's entries or of a union's branches."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
