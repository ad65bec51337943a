"""A suite's two files: `suite.yaml` says what it is and how each task is asked, `suite.jsonl` has one item a line.

Both are read whole and strictly: what no evaluation would use is an error with its file and line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.digest import digest_bytes
from tunewright.grading.structure import is_valid, schema_fault
from tunewright.parts.base import BadOption, Name
from tunewright.spec.document import read
from tunewright.spec.problems import SpecError

HEAD, ITEMS = "suite.yaml", "suite.jsonl"
INSTALLED = Path(__file__).parent
MOST_BYTES = 32 << 20  # of a file of items: the whole is held in memory
RESERVED = frozenset({
    "score", "exact_match", "valid_json", "over_refusal", "accuracy", "probability", "confidence", "tied",
})  # fmt: skip
"""Scores and grades beside those of the tasks: no task is called so."""

Form = Literal["label", "choice", "span", "number", "fields", "json", "refusal"]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """What a file may say and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Task(Strict):
    """How the items of one task are asked, and what form their answers have."""

    form: Form
    instruction: Text
    labels: Annotated[list[Text], Field(min_length=2)] | None = None
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class Head(Strict):
    """`suite.yaml`: the suite's data card."""

    name: Name
    version: Text
    licence: Text
    canary: Text
    about: Text
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]


class Line(Strict):
    """A line of `suite.jsonl`. The last five say why the reference is right, and are for people."""

    id: Text
    task: str
    text: Text
    choices: Annotated[list[Text], Field(min_length=2, max_length=26)] | None = None
    reference: Any
    accept: Annotated[list[Text], Field(min_length=1)] | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    group: Text | None = None
    fact: str = ""
    why: str = ""
    trap: str = ""
    review: str = ""


@dataclass(frozen=True)
class Suite:
    """A suite as its files have it. `lines` are the items with their origins, `digest` is that of both files."""

    head: Head
    lines: tuple[tuple[str, Line], ...]
    digest: str


def installed() -> list[str]:
    """Names of the suites that come with this package."""
    return sorted(head.parent.name for head in INSTALLED.glob(f"*/{HEAD}"))


def load(folder: Path, field: str) -> Suite:
    """The suite of a folder; `field` is the option that names it.

    Raises `BadOption` with every place that is wrong: a file that is not there, a key that is not known, a reference
    that is no answer of its task's form.
    """
    for name in (HEAD, ITEMS):
        if not (folder / name).is_file():
            fix = f"a suite is a folder with `{HEAD}` and `{ITEMS}`"
            raise BadOption("file-missing", f"there is no file `{name}` in `{folder.name}`", field, fix)
    raw = {name: _bytes(folder / name, field) for name in (HEAD, ITEMS)}
    head = _head(folder / HEAD, field)
    lines = tuple(_lines(raw[ITEMS], f"{folder.name}/{ITEMS}", head, field))
    return Suite(head, lines, digest_bytes(b"\0".join(raw.values())))


def refuse_schemas(suite: Suite, field: str) -> None:
    """Raise `BadOption` where a schema is none, or a reference does not keep its own. Apart from `load`, for it takes
    a library that `validate` does without."""
    for name, task in suite.head.tasks.items():
        why = None if task.json_schema is None else schema_fault(task.json_schema)
        if why:
            raise BadOption("bad-value", f"{suite.head.name}/{HEAD}: the schema of `{name}` is none: {why}", field)
    for origin, line in suite.lines:
        schema = suite.head.tasks[line.task].json_schema
        if schema is not None and not is_valid(line.reference, schema):
            raise BadOption("bad-value", f"{origin}: the reference does not keep the schema of `{line.task}`", field)


def _bytes(path: Path, field: str) -> bytes:
    if path.stat().st_size > MOST_BYTES:
        raise BadOption("file-too-large", f"`{path.name}` has more than {MOST_BYTES >> 20} MiB", field)
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadOption("file-unreadable", f"`{path.name}` cannot be read: {error.strerror}", field) from error


def _head(path: Path, field: str) -> Head:
    where = f"{path.parent.name}/{path.name}"
    try:
        document = read(path)
    except SpecError as error:
        problem = error.problems[0]
        raise BadOption(problem.code, f"{where}:{problem.position.line}: {problem.message}", field) from error
    for problem in document.problems:
        raise BadOption(problem.code, f"{where}:{problem.position.line}: {problem.message}", field)
    try:
        head = Head.model_validate(document.data)
    except ValidationError as error:
        found = [(document.at(tuple(one["loc"])).line, _said(one)) for one in error.errors()]
        raise BadOption("bad-value", "; ".join(f"{where}:{line}: {says}" for line, says in found), field) from error
    for name, task in head.tasks.items():
        why = _unfit(name, task)
        if why:
            raise BadOption("bad-value", f"{where}:{document.at(('tasks', name)).line}: {why}", field)
    return head


def _said(error: Mapping[str, Any]) -> str:
    return f"`{'.'.join(map(str, error['loc'])) or 'the item'}`: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _unfit(name: str, task: Task) -> str | None:
    if name in RESERVED:
        return f"a task cannot be called `{name}`: a score of every suite is"
    for key, form, value in (("labels", "label", task.labels), ("schema", "json", task.json_schema)):
        if (value is not None) != (task.form == form):
            return f"`{name}` has the form `{task.form}`: `{key}` belongs to the form `{form}`, and to it alone"
    return None


def _lines(raw: bytes, where: str, head: Head, field: str) -> Iterator[tuple[str, Line]]:
    seen, asked = dict[str, str](), set[str]()
    try:
        texts = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise BadOption("not-utf-8", f"{where}:{number}: not UTF-8 text", field) from error
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        origin = f"{where}:{number}"
        line = _line(text, origin, field)
        if line.id in seen:
            raise BadOption("bad-value", f"{origin}: the id `{line.id}` is that of {seen[line.id]} too", field)
        seen[line.id] = origin
        asked.add(line.task)
        why = _unlike(line, head.tasks.get(line.task))
        if why:
            raise BadOption("bad-value", f"{origin}: {why}", field)
        yield origin, line
    for task in head.tasks:
        if task not in asked:
            raise BadOption("no-rows", f"{where}: no item is of the task `{task}`", field)


def _line(text: str, origin: str, field: str) -> Line:
    try:
        return Line.model_validate_json(text)
    except ValidationError as error:
        raise BadOption("bad-jsonl", f"{origin}: {'; '.join(map(_said, error.errors()))}", field) from error


def _unlike(line: Line, task: Task | None) -> str | None:
    """Why an item cannot be one of its task."""
    if task is None:
        return f"`{HEAD}` has no task `{line.task}`"
    for key, forms, value in (
        ("choices", ("choice",), line.choices),
        ("tolerance", ("number",), line.tolerance),
        ("accept", ("span", "refusal"), line.accept),
    ):
        if value is not None and task.form not in forms:
            return f"`{key}` belongs to the form {' or '.join(forms)}, `{line.task}` has the form {task.form}"
    fits, wanted = _reference(line, task)
    return None if fits else f"the reference of the form {task.form} is {wanted}, not {json.dumps(line.reference)[:80]}"


def _reference(line: Line, task: Task) -> tuple[bool, str]:
    """Whether the reference is an answer of the task's form, and what such an answer is."""
    given = line.reference
    match task.form:
        case "label":
            return given in (task.labels or ()), f"one of {', '.join(task.labels or ())}"
        case "choice":
            places = range(len(line.choices or ()))
            return type(given) is int and given in places, "the place of one of the item's `choices`, from 0"
        case "span":
            return isinstance(given, str) and bool(given.strip()), "a text"
        case "number":
            return type(given) in (int, float), "a number"
        case "fields":
            good = isinstance(given, list) and bool(given) and all(isinstance(name, str) and name for name in given)
            return good, "a list of names"
        case "json":
            return isinstance(given, dict), "an object"
        case "refusal":
            return given in ("refuse", "answer"), "`refuse` or `answer`"
