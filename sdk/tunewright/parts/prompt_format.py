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

from tunewright.parts.base import Backend, Head, Json, O
from tunewright.parts.loader import Message

RowKind = Literal["messages", "completion", "text", "preference", "feedback"]


Text = list[Message] | str
"""A conversation, rendered by the model's own chat template; or plain text, around which nothing is put."""


class Example(NamedTuple):
    """Cut where generation starts: `completion` is what is learnt, `prompt` is what is given.

    `messages` rows: both are conversations, and of `completion` the assistant's messages are learnt. `completion` rows:
    both are plain text. `text` rows: plain text, learnt from its first token on, and `prompt` is empty.
    """

    prompt: Text
    completion: Text

    @property
    def asked(self) -> Text:
        """What stands before the answer: the prompt and, of several turns, those before the last message."""
        return self.prompt if isinstance(self.prompt, str) else [*self.prompt, *self.completion[:-1]]

    @property
    def answer(self) -> str:
        """The reference answer as text."""
        return said(self.completion)


class Preference(NamedTuple):
    """`preference` rows: two completions of one prompt, the better and the worse."""

    prompt: Text
    chosen: Text
    rejected: Text

    @property
    def asked(self) -> Text:
        """What stands before the answer."""
        return self.prompt

    @property
    def answer(self) -> str:
        """The better completion as text."""
        return said(self.chosen)


class Feedback(NamedTuple):
    """`feedback` rows: a completion and whether it was wanted."""

    prompt: Text
    completion: Text
    label: bool

    @property
    def asked(self) -> Text:
        """What stands before the answer."""
        return self.prompt

    @property
    def answer(self) -> str:
        """The completion as text, wanted or not."""
        return said(self.completion)


AnyExample = Example | Preference | Feedback


def said(text: Text) -> str:
    """A completion's text: of a conversation, what its last message says."""
    return text if isinstance(text, str) else text[-1]["content"]


def texts(text: Text) -> list[str]:
    """What stands in a text: the contents of its messages, or itself."""
    return [text] if isinstance(text, str) else [message["content"] for message in text]


class PromptFormat(Backend[O]):
    """Turns a row's fields into an example."""

    part: ClassVar[str] = "prompt_format"
    makes: ClassVar[RowKind]

    @classmethod
    def guess(cls, head: Head) -> str | None:
        """The line to paste where a file's columns and first rows look like this format's, else None.

        As in `format: {kind: alpaca}  # instruction, input and output`: what it goes by stands in a comment. A guess is
        shown to a person, never taken.
        """
        return None

    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Every column that `example` reads, with the option's field that names it."""

    @abstractmethod
    def prompt_columns(self) -> frozenset[str]:
        """The columns that `prompt` reads: what a file to be answered must have."""

    @abstractmethod
    def prompt(self, fields: Mapping[str, Json]) -> Text:
        """What is given to the model, from a row that needs no answer."""

    @abstractmethod
    def example(self, fields: Mapping[str, Json]) -> AnyExample:
        """A training or test row: `Preference` or `Feedback` for rows of that kind, else `Example`."""
