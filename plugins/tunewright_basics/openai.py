"""`openai`: messages as OpenAI's API and its fine-tuning files have them, `role` and `content`; in a column or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import Column, first, works
from tunewright_basics.turns import OPENAI, Turns, TurnsOptions, conversation, is_turns, learnt, question


class OpenaiOptions(TurnsOptions):
    """Options of OpenAI's chat format."""

    kind: str = "openai"
    messages: Annotated[
        Column, Field(description="The column with the list of messages, each `role` and `content`, or its JSON.")
    ] = "messages"
    completion: Annotated[
        Column | None,
        Field(description="The column with the messages that answer, where `messages` names one of what is asked."),
    ] = None


class Openai(Turns[OpenaiOptions]):
    """`{"messages": [{"role": "user", "content": …}, …]}`, a conversation a row; turns of tools are refused.

    With `completion`, a conversation in two columns, as TRL's conversational prompt-completion files have it:
    https://huggingface.co/docs/trl/dataset_formats.
    """

    kind, holds, shape = "openai", "messages", OPENAI
    Options: ClassVar = OpenaiOptions
    reads = Turns.reads | {"messages", "completion"}

    @classmethod
    def guess(cls, head: Head) -> str | None:
        in_two = OpenaiOptions(messages="prompt", completion="completion")
        if is_turns(first(head, "prompt"), OPENAI) and "label" not in head.columns and works(cls(in_two), head):
            return "format: {kind: openai, messages: prompt, completion: completion}  # both hold turns"
        return super().guess(head)

    def columns(self) -> Mapping[str, str]:
        answers = {} if self.options.completion is None else {self.options.completion: "completion"}
        return {**answers, **super().columns()}

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        if self.options.completion is None:
            return super().prompt(fields)
        return self.opened(question(fields, self.options.messages), fields)

    def example(self, fields: Mapping[str, Any]) -> Example:
        if self.options.completion is None:
            return super().example(fields)
        return learnt([*self.prompt(fields), *conversation(fields, self.options.completion)], self.options.learn)
