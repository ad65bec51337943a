"""`chat`: a system message, a prompt and a completion, each a text with the row's columns in braces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from tunewright.errors import BadInput
from tunewright.parts import Options, PromptFormat
from tunewright.parts.prompt_format import Example, Message


def columns_of(template: str) -> Iterator[str]:
    """The columns that a text names. Raises `ValueError` where a brace is open or holds more than a column's name."""
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError("braces hold one column's name, as in {text}; a literal brace is {{ or }}")
        yield name


class ChatOptions(Options):
    """Options of the chat format."""

    kind: str = "chat"
    system: Annotated[str | None, Field(description="System message, the same for every row.")] = None
    prompt: Annotated[str, Field(description="User message; {column} substitutes, {{ is literal.")]
    completion: Annotated[str, Field(description="The answer that is learnt; {column} substitutes.")]

    @field_validator("system", "prompt", "completion")
    @classmethod
    def _braces(cls, value: str | None) -> str | None:
        list(columns_of(value or ""))
        return value

    @field_validator("prompt", "completion")
    @classmethod
    def _says_something_of_the_row(cls, value: str) -> str:
        if not list(columns_of(value)):
            raise ValueError("names no column, so that every row would read the same: put one in braces, as in {text}")
        return value


class Chat(PromptFormat[ChatOptions]):
    """One turn of a conversation, rendered by the model's own chat template."""

    kind, makes = "chat", "messages"
    Options: ClassVar = ChatOptions
    reads = frozenset({"system", "prompt", "completion"})
    vary: ClassVar = {"prompt": ("{text}", "Route this: {text}"), "completion": ("{label}", "It is {label}.")}

    def columns(self) -> Mapping[str, str]:
        fields = ("completion", "prompt", "system")
        return {column: field for field in fields for column in columns_of(getattr(self.options, field) or "")}

    def prompt_columns(self) -> frozenset[str]:
        return frozenset(columns_of(self.options.prompt)) | frozenset(columns_of(self.options.system or ""))

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        user = {"role": "user", "content": _fill(self.options.prompt, fields)}
        if self.options.system is None:
            return [user]
        return [{"role": "system", "content": _fill(self.options.system, fields)}, user]

    def example(self, fields: Mapping[str, Any]) -> Example:
        answer = {"role": "assistant", "content": _fill(self.options.completion, fields)}
        return Example(self.prompt(fields), [answer])


def _fill(template: str, fields: Mapping[str, Any]) -> str:
    """`str.format` would reach into attributes; here a brace is a column and nothing else."""
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts.append(text)
        if name is not None:
            if fields.get(name) is None:
                raise BadInput(f"the row has no value in column `{name}`")
            parts.append(str(fields[name]))
    return "".join(parts)
