"""Conversations that a column holds: lists of turns, in the shapes that other tools write.

A source of tables (csv, sql) has no lists: there the column holds the list as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from tunewright.errors import BadInput
from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import LEAVE_OUT, AnyTemplate, columns_in, fields_by_column, fill, first, text_of, works

Learn = Annotated[
    Literal["last", "all"],
    Field(description="Which of the assistant's messages are learnt: the last one alone, or all of them."),
]
System = Annotated[
    AnyTemplate | None,
    Field(description="System message of rows whose conversation brings none; {column} substitutes."),
]


class Shape(NamedTuple):
    """How a tool writes a turn: its keys, and what it calls the roles."""

    who: str
    says: str
    roles: Mapping[str, str]


OPENAI = Shape("role", "content", {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"})
"""Chat completions: https://platform.openai.com/docs/api-reference/chat; `developer` is its newer word for `system`."""
TOOLS = ("tool_calls", "function_call")


def conversation(fields: Mapping[str, Any], column: str, shape: Shape = OPENAI) -> list[Message]:
    """A column's list of turns as messages. Raises `BadInput` naming the turn that is none."""
    turns = enumerate(_list(fields, column), 1)
    return [_message(turn, f"turn {number} of `{column}`", shape) for number, turn in turns]


def _list(fields: Mapping[str, Any], column: str) -> list[Any]:
    value = fields.get(column)
    if value is None:
        raise BadInput(f"the row has no value in column `{column}`")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            why = f"column `{column}` holds neither a list of turns nor the JSON of one: {error}"
            raise BadInput(why, fix=LEAVE_OUT) from error
    if not isinstance(value, list) or not value:
        raise BadInput(f"column `{column}` holds no list of turns", fix=LEAVE_OUT)
    return value


def _message(turn: Any, where: str, shape: Shape) -> Message:
    if not isinstance(turn, Mapping) or shape.who not in turn:
        raise BadInput(f"{where} is no turn: it needs `{shape.who}` and `{shape.says}`")
    role = turn[shape.who]
    if not isinstance(role, str) or role not in shape.roles:
        known = ", ".join(shape.roles)
        raise BadInput(f"{where} is by `{role}`", fix=f"known are {known}; tools are not trained on: leave it out")
    if any(turn.get(key) for key in TOOLS):
        raise BadInput(f"{where} calls a tool: tools are not trained on", fix="leave the row out")
    if turn.get("weight") == 0:
        raise BadInput(f"{where} has weight 0, an answer not to be learnt", fix="leave the row out, or the turn")
    return {"role": shape.roles[role], "content": _content(turn.get(shape.says), f"{where}, by `{role}`,")}


def _content(value: Any, where: str) -> str:
    """A turn's text; OpenAI writes it as a list of parts too."""
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        value = "".join(str(part.get("text", "")) for part in value)
    if not isinstance(value, str):
        raise BadInput(f"{where} has no text: only texts are trained on", fix=LEAVE_OUT)
    if not value.strip():
        raise BadInput(f"{where} is empty", fix=LEAVE_OUT)
    return value


def with_system(messages: list[Message], system: str | None) -> list[Message]:
    """The conversation with the system message before it, where it has none of its own."""
    if system is None or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]


def before_answer(messages: list[Message]) -> list[Message]:
    """What is asked: all but the last answer. Raises `BadInput` where nobody asks anything."""
    cut = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if not any(message["role"] == "user" for message in cut):
        raise BadInput("nobody asks anything before the last answer", fix=LEAVE_OUT)
    return cut


def question(fields: Mapping[str, Any], column: str) -> list[Message]:
    """What a column asks: its turns up to the answer, which stands in another column, or a text as the user's turn.

    Raises `BadInput` where the turns ask nothing, or end with an answer of their own.
    """
    if not isinstance(fields.get(column), list) and not is_turns(fields.get(column), OPENAI):
        return [{"role": "user", "content": text_of(fields, column)}]
    turns = conversation(fields, column)
    if turns[-1]["role"] == "assistant":
        raise BadInput(f"column `{column}` ends with an answer, where only what is asked may stand", fix=LEAVE_OUT)
    return before_answer(turns)


def learnt(messages: list[Message], learn: str) -> Example:
    """The conversation, cut before what is learnt of it. Raises `BadInput` where it does not end with an answer."""
    if messages[-1]["role"] != "assistant":
        raise BadInput("the conversation does not end with an answer", fix=LEAVE_OUT)
    before_answer(messages)
    roles = [message["role"] for message in messages]
    cut = roles.index("assistant") if learn == "all" else len(messages) - 1
    if "user" not in roles[:cut]:
        fix = "mend the row, or use `learn: last`"
        raise BadInput("the conversation begins with an answer that nobody asked for", fix=fix)
    return Example(messages[:cut], messages[cut:])


def is_turns(value: Any, shape: Shape) -> bool:
    """Whether a value is a list of turns of this shape, or its JSON."""
    try:
        return all({shape.who, shape.says} <= turn.keys() for turn in _list({"": value}, ""))
    except (BadInput, AttributeError):
        return False


def holds_text(head: Head, column: str) -> bool:
    """Whether a column holds texts, and not the JSON of turns, by its first value."""
    value = first(head, column)
    return isinstance(value, str) and not is_turns(value, OPENAI)


class TurnsOptions(Options):
    """What every format of whole conversations reads."""

    system: System = None
    learn: Learn = "last"


O = TypeVar("O", bound=TurnsOptions)


class Turns(PromptFormat[O]):
    """A column that holds a whole conversation; subclasses say in which option it is named and in which shape it is."""

    makes = "messages"
    reads = frozenset({"system", "learn"})
    vary: ClassVar = {"system": (None, "Answer briefly."), "learn": ("last", "all")}
    holds: ClassVar[str]
    """The option that names the column; also the column's own name by default."""
    shape: ClassVar[Shape]

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if not is_turns(first(head, cls.holds), cls.shape) or not works(cls(cls.Options(kind=cls.kind)), head):
            return None
        return f"format: {{kind: {cls.kind}}}  # `{cls.holds}` holds turns of `{cls.shape.who}` and `{cls.shape.says}`"

    def columns(self) -> Mapping[str, str]:
        return {**fields_by_column(self.options, ["system"]), self._column: self.holds}

    def prompt_columns(self) -> frozenset[str]:
        return frozenset({self._column}) | columns_in(self.options.system)

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        """The conversation up to its last answer, or the whole of one that waits for an answer."""
        return before_answer(self._messages(fields))

    def example(self, fields: Mapping[str, Any]) -> Example:
        return learnt(self._messages(fields), self.options.learn)

    @property
    def _column(self) -> str:
        return str(getattr(self.options, self.holds))

    def _messages(self, fields: Mapping[str, Any]) -> list[Message]:
        return self.opened(conversation(fields, self._column, self.shape), fields)

    def opened(self, messages: list[Message], fields: Mapping[str, Any]) -> list[Message]:
        """The conversation behind the system message that `system` gives it."""
        system = self.options.system
        return with_system(messages, None if system is None else fill(system, fields))
