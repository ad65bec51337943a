"""How a row becomes an example: plain data. Only the core renders, tokenizes and proves the mask.

A complete format:

    class Ask(PromptFormat):
        kind, Options, makes = "ask", AskOptions, "messages"

        def columns(self):
            return frozenset({"question", "answer"})

        def prompt_columns(self):
            return frozenset({"question"})

        def prompt(self, fields):
            return [{"role": "user", "content": fields["question"]}]

        def example(self, fields):
            return Example(self.prompt(fields), [{"role": "assistant", "content": fields["answer"]}])
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from tunewright.parts.base import Backend, Json, O
from tunewright.parts.loader import Message

RowKind = Literal["messages", "completion", "text", "preference", "feedback"]


class Example(NamedTuple):
    """One conversation, cut where generation starts: `completion` is what is learnt, `prompt` is what is given."""

    prompt: list[Message]
    completion: list[Message]

    @property
    def answer(self) -> str:
        """The reference answer as text."""
        return self.completion[-1]["content"]


class PromptFormat(Backend[O]):
    """Turns a row's fields into an example."""

    part: ClassVar[str] = "prompt_format"
    makes: ClassVar[RowKind]

    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Every column that `example` reads, with the option's field that names it."""

    @abstractmethod
    def prompt_columns(self) -> frozenset[str]:
        """The columns that `prompt` reads: what a file to be answered must have."""

    @abstractmethod
    def prompt(self, fields: Mapping[str, Json]) -> list[Message]:
        """What is given to the model, from a row that needs no answer."""

    @abstractmethod
    def example(self, fields: Mapping[str, Json]) -> Example:
        """Prompt and answer of a training or test row."""
