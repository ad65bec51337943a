"""`openai`: a column of messages as OpenAI's API and its fine-tuning files have them, each `role` and `content`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunewright_basics.template import Column
from tunewright_basics.turns import OPENAI, Turns, TurnsOptions


class OpenaiOptions(TurnsOptions):
    """Options of OpenAI's chat format."""

    kind: str = "openai"
    messages: Annotated[
        Column, Field(description="The column with the list of messages, each `role` and `content`, or its JSON.")
    ] = "messages"


class Openai(Turns[OpenaiOptions]):
    """`{"messages": [{"role": "user", "content": …}, …]}`, a conversation a row; turns of tools are refused."""

    kind, holds, shape = "openai", "messages", OPENAI
    Options: ClassVar = OpenaiOptions
    reads = Turns.reads | {"messages"}
