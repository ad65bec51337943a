"""How a row becomes an example: plain data. Only the core renders, tokenizes and proves the mask.

A complete format:

    from typing import Annotated

    from pydantic import Field
    from tunewright import BadInput
    from tunewright.parts import Options, PromptFormat
    from tunewright.parts.prompt_format import Example
    from tunewright.testing import check_prompt_format

    class AskOptions(Options):
        kind: str = "ask"
        question: Annotated[str, Field(description="The column that is asked.")] = "text"
        answer: Annotated[str, Field(description="The column with the answer.")] = "label"

    class Ask(PromptFormat[AskOptions]):
        kind, Options, makes = "ask", AskOptions, "messages"
        reads = frozenset({"question", "answer"})
        vary = {"question": ("text", "label"), "answer": ("label", "text")}  # for the kit

        def columns(self):  # column → the option that names it: a missing column is said there
            return {self.options.question: "question", self.options.answer: "answer"}

        def prompt_columns(self):
            return frozenset({self.options.question})

        def prompt(self, fields):
            return [{"role": "user", "content": text_of(fields, self.options.question)}]

        def example(self, fields):
            answer = {"role": "assistant", "content": text_of(fields, self.options.answer)}
            return Example(self.prompt(fields), [answer])

    def text_of(fields, column):
        if fields.get(column) in (None, ""):
            raise BadInput(f"the row has no value in column `{column}`")
        return str(fields[column])

    def test_it_keeps_its_contract(tmp_path):
        check_prompt_format(Ask, folder=tmp_path)
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
