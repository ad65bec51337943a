"""Problems: everything wrong with a spec, in one form, like a compiler's.

A problem has a stable code, a place (file, line, column), a sentence and, where there is one, the likely fix. All
problems of all files are collected before any is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tunewright.errors import BadInput

WIDEST = 120  # letters of a source line that are shown
_HELD = re.compile(
    r"""((?:api_?key|password|secret|\btoken)["']?\s*[:=]\s*["']?)(?!\$\{env:)([^\s,}\]"']+)""", re.IGNORECASE
)


class Position(NamedTuple):
    """Where something stands: 1-based line and columns; `end_column` is just past the last character."""

    file: str
    line: int
    column: int
    end_column: int


class Problem(NamedTuple):
    """One thing wrong. `suggestion` is what to write instead, as a phrase: did you mean `learning_rate`?"""

    code: str
    message: str
    position: Position
    suggestion: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The shape that `--format json` prints."""
        place = self.position
        return {
            "file": _file(self),
            "line": place.line,
            "column": place.column,
            "end_column": place.end_column,
            "code": self.code,
            "message": self.message,
            "suggestion": hidden(self.suggestion),
        }


def hidden(text: str) -> str:
    """A line of a spec as it is shown: a literal value under a name that is a secret's is starred out, since any other
    mistake of that line shows it all. Columns stay as they are."""
    return _HELD.sub(lambda found: found[1] + "*" * len(found[2]), text)


def _file(problem: Problem) -> str:
    """The file's name; of a secret that was typed with `--set`, without the value."""
    file = problem.position.file
    if not file.startswith("--set "):
        return file
    return f"{file.partition('=')[0]}=…" if problem.code == "secret-in-spec" else hidden(file)


class SpecError(BadInput):
    """One or more problems with a spec, sorted by place; `str()` shows them all with their source lines."""

    def __init__(self, problems: Iterable[Problem], sources: Mapping[str, Sequence[str]]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.position, problem.code))
        self.sources = sources
        super().__init__(render_text(self.problems, sources))


def render_text(problems: Iterable[Problem], sources: Mapping[str, Sequence[str]]) -> str:
    """Problems as a compiler prints them: place, code, sentence, the line with a caret and the fix."""
    return "\n".join(_render(problem, sources.get(problem.position.file, ())) for problem in problems)


def _render(problem: Problem, lines: Sequence[str]) -> str:
    place = problem.position
    head = f"{_file(problem)}:{place.line}:{place.column}: error[{problem.code}]: {problem.message}"
    if not 1 <= place.line <= len(lines):
        return f"{head}\n   {hidden(problem.suggestion)}" if problem.suggestion else head
    number, line = f"{place.line:>4}", lines[place.line - 1]
    if problem.code == "secret-in-spec":  # what stands there may be the secret itself
        line = f"{line[: place.column - 1]}…"
    line, start, end = _window(hidden(line), place.column - 1, place.end_column - 1)
    caret = _blank(line[:start]) + "^" * max(1, len(_blank(line[start:end]).expandtabs()))
    pointer = f"{' ' * len(number)} | {caret} {hidden(problem.suggestion)}".rstrip()
    return f"{head}\n{number} | {line}\n{pointer}"


def _window(line: str, start: int, end: int) -> tuple[str, int, int]:
    """What of a long line is shown, and where in it the place is."""
    first = max(0, min(start - 40, len(line) - WIDEST)) if len(line) > WIDEST else 0
    shown, mark = line[first : first + WIDEST], "…" if first else ""
    rest = "…" if first + WIDEST < len(line) else ""
    return f"{mark}{shown}{rest}", start - first + len(mark), min(end - first, WIDEST) + len(mark)


def _blank(text: str) -> str:
    """As many columns of a terminal as a text takes: two for a wide letter, none for one that combines; tabs stay."""
    if text.isascii():
        return "".join("\t" if letter == "\t" else " " for letter in text)
    from unicodedata import combining, east_asian_width  # only where a line needs it

    return "".join(
        "\t" if letter == "\t" else "" if combining(letter) else "  " if east_asian_width(letter) in "WF" else " "
        for letter in text
    )


def render_json(problems: Iterable[Problem]) -> str:
    """A JSON list, one object a problem."""
    import json

    return json.dumps([problem.to_json() for problem in problems], indent=2)


def render_github(problems: Iterable[Problem]) -> str:
    """GitHub workflow commands, which show as annotations on the changed lines."""
    return "\n".join(_annotation(problem) for problem in problems)


def _annotation(problem: Problem) -> str:
    place, text = problem.position, " ".join(filter(None, (problem.message, hidden(problem.suggestion))))
    where = f"file={_property(_file(problem))},line={place.line},col={place.column},endColumn={place.end_column}"
    return f"::error {where},title={problem.code}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """In front of the message, `:` and `,` have a meaning too."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
