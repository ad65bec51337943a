"""As much of Go's text/template as Ollama's templates for these models take: to see what one of them renders.

Supported are `range` over the messages, `if`, `else if`, `else`, the fields of a message, `$.System`, and the trimming
of `{{-` and `-}}`: https://pkg.go.dev/text/template and Ollama's docs/template.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.parts.loader import Message

ACTION = re.compile(r"(?:(?P<left>\s*)\{\{-\s|\{\{)(?P<words>.*?)(?:\s-\}\}(?P<right>\s*)|\}\})", re.DOTALL)
RANGE = "range $i, $_ := .Messages"
LAST = "eq (len (slice $.Messages $i)) 1"


class Scope(NamedTuple):
    """What an expression may read: all messages, the system's, and the message at hand with its place."""

    messages: Sequence[Message]
    system: str
    place: int = -1

    @property
    def message(self) -> Message:
        return self.messages[self.place]


CONDITIONS: Mapping[str, Callable[[Scope], bool]] = {
    "not .System": lambda scope: not scope.system,
    'eq .Role "user"': lambda scope: scope.message["role"] == "user",
    'eq .Role "assistant"': lambda scope: scope.message["role"] == "assistant",
    f"and $.System ({LAST})": lambda scope: bool(scope.system) and scope.place == len(scope.messages) - 1,
}
FIELDS: Mapping[str, Callable[[Scope], str]] = {
    ".Role": lambda scope: scope.message["role"],
    ".Content": lambda scope: scope.message["content"],
    "$.System": lambda scope: scope.system,
}


def render(template: str, messages: Sequence[Message]) -> str:
    """What Ollama makes of a conversation by a template that reads `.Messages`. Raises `ValueError` for other Go."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    text, _ = _block(list(_tokens(template)), 0, Scope(messages, system))
    return text


def _tokens(template: str) -> Iterator[tuple[str, str]]:
    """`("text", …)` and `("action", …)`, spaces trimmed where an action says so."""
    at = 0
    for found in ACTION.finditer(template):
        yield "text", template[at : found.start()]
        yield "action", found["words"].strip()
        at = found.end()
    yield "text", template[at:]


def _block(tokens: list[tuple[str, str]], at: int, scope: Scope, *, shown: bool = True) -> tuple[str, int]:
    """The text of a block, and the place of what ends it: an `else`, an `end`, or the template's end."""
    parts = []
    while at < len(tokens):
        kind, words = tokens[at]
        if kind == "text":
            parts.append(words)
        elif words == "end" or words.startswith("else"):
            break
        elif words == RANGE:
            text, at = _loop(tokens, at + 1, scope, shown=shown)
            parts.append(text)
        elif words.startswith("if "):
            text, at = _choice(tokens, at, scope, shown=shown)
            parts.append(text)
        else:
            parts.append(_named(FIELDS, words)(scope) if shown else "")
        at += 1
    return "".join(parts) if shown else "", at


def _loop(tokens: list[tuple[str, str]], at: int, scope: Scope, *, shown: bool) -> tuple[str, int]:
    parts, end = [], _block(tokens, at, scope, shown=False)[1]
    for place in range(len(scope.messages) if shown else 0):
        parts.append(_block(tokens, at, scope._replace(place=place))[0])
    return "".join(parts), end


def _choice(tokens: list[tuple[str, str]], at: int, scope: Scope, *, shown: bool) -> tuple[str, int]:
    """The first branch whose condition holds; the place of its `end`."""
    text, open_ = "", shown
    while tokens[at][1] != "end":
        words = tokens[at][1].removeprefix("else").strip()
        holds = open_ and (not words or _named(CONDITIONS, words.removeprefix("if "))(scope))
        branch, at = _block(tokens, at + 1, scope, shown=holds)
        text += branch
        open_ = open_ and not holds
        if at >= len(tokens):
            raise ValueError("a template without its `end`")
    return text, at


def _named(known: Mapping[str, Any], words: str) -> Any:
    if words not in known:
        raise ValueError(f"`{words}` is not read here")
    return known[words]
