"""`chat`: a system message, a prompt and a completion, each a text with the row's columns in braces; or a column that
holds the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import (
    AnyTemplate,
    Column,
    Template,
    columns_in,
    fields_by_column,
    fill,
    first,
    in_braces,
    works,
)
from tunewright_basics.turns import OPENAI, Learn, before_answer, conversation, is_turns, learnt, with_system

ASKED = ("text", "question", "prompt", "query", "message", "utterance", "sentence", "ticket", "input", "instruction")
ANSWERED = ("completion", "answer", "response", "reply", "output", "label", "intent", "category", "queue", "class")
"""Names of columns by which a file is guessed to hold one turn a row, the likeliest first."""
OTHERS = ({"instruction", "output"}, {"chosen"}, {"rejected"}, {"conversations"}, {"messages"}, {"completion", "label"})
"""Columns of files that other formats know better."""


class ChatOptions(Options):
    """Options of the chat format."""

    kind: str = "chat"
    system: Annotated[
        AnyTemplate | None, Field(description="System message, where the row's conversation brings none of its own.")
    ] = None
    messages: Annotated[
        Column | None,
        Field(
            description="Column of a conversation, a list of `role` and `content` or its JSON: the whole of it, or with"
            " `prompt` the turns before it."
        ),
    ] = None
    prompt: Annotated[
        Template | None,
        Field(validate_default=True, description="User message; {column} substitutes, {{ is literal."),
    ] = None
    completion: Annotated[
        Template | None,
        Field(validate_default=True, description="The answer that is learnt; {column} substitutes."),
    ] = None
    learn: Learn = "last"

    @field_validator("prompt")
    @classmethod
    def _prompt_or_messages(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("messages") is None:
            raise PydanticKnownError("missing")
        return value

    @field_validator("completion")
    @classmethod
    def _completion_with_prompt(cls, value: str | None, info: ValidationInfo) -> str | None:
        alone = info.data.get("messages") is not None and info.data.get("prompt", "") is None
        if value is None and not alone:
            raise PydanticKnownError("missing")
        if value is not None and alone:
            raise ValueError("nothing asks for it: a conversation of `messages` alone ends with its own answer")
        return value

    @field_validator("learn")
    @classmethod
    def _all_of_several(cls, value: str, info: ValidationInfo) -> str:
        if value == "all" and info.data.get("messages") is None:
            raise ValueError("one turn has one answer: `all` is of a conversation, in the column that `messages` names")
        return value


class Chat(PromptFormat[ChatOptions]):
    """A conversation, rendered by the model's own chat template: one turn, or as many as the row has."""

    kind, makes = "chat", "messages"
    Options: ClassVar = ChatOptions
    reads = frozenset({"system", "messages", "prompt", "completion", "learn"})
    vary: ClassVar = {
        "system": (None, "Answer with one word."), "messages": (None, "earlier"), "learn": ("last", "all"),
        "prompt": ("{text}", "Route this: {text}"), "completion": ("{label}", "It is {label}."),
    }  # fmt: skip

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if any(other <= set(head.columns) for other in OTHERS):
            return None
        asked, answered = (next((c for c in names if c in _lower(head)), "") for names in (ASKED, ANSWERED))
        if not asked or not answered:
            return None
        columns = [_lower(head)[column] for column in (asked, answered)]
        if any(is_turns(first(head, column), OPENAI) for column in columns):
            return None
        told = dict(zip(("prompt", "completion"), (f"{{{column}}}" for column in columns), strict=True))
        if not works(cls(ChatOptions(**told)), head):
            return None
        prompt, completion = map(in_braces, columns)
        return f"format: {{kind: chat, prompt: {prompt}, completion: {completion}}}  # columns of these names"

    def columns(self) -> Mapping[str, str]:
        found = fields_by_column(self.options, ("completion", "prompt", "system"))
        return found if self.options.messages is None else {**found, self.options.messages: "messages"}

    def prompt_columns(self) -> frozenset[str]:
        found = columns_in(self.options.prompt, self.options.system)
        return found if self.options.messages is None else found | {self.options.messages}

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        """What is asked: all turns up to the last answer."""
        if self.options.prompt is None:
            return before_answer(self._turns(fields))
        return [*self._turns(fields), {"role": "user", "content": fill(self.options.prompt, fields)}]

    def example(self, fields: Mapping[str, Any]) -> Example:
        if self.options.completion is None:
            return learnt(self._turns(fields), self.options.learn)
        answer = {"role": "assistant", "content": fill(self.options.completion, fields)}
        return learnt([*self.prompt(fields), answer], self.options.learn)

    def _turns(self, fields: Mapping[str, Any]) -> list[Message]:
        """The turns that the row's conversation has, if there is one; before a prompt there may be none."""
        column, system = self.options.messages, self.options.system
        none = column is None or (self.options.prompt is not None and fields.get(column) in (None, "", []))
        turns = [] if column is None or none else conversation(fields, column)
        return with_system(turns, None if system is None else fill(system, fields))


def _lower(head: Head) -> dict[str, str]:
    """Columns that a template can name, by their name in small letters."""
    return {column.lower(): column for column in head.columns if in_braces(column)}
