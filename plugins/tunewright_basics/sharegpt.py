"""`sharegpt`: a column of turns, each `from` (human, gpt or system) and `value`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunewright_basics.template import Column
from tunewright_basics.turns import Shape, Turns, TurnsOptions

SHAREGPT = Shape(
    "from",
    "value",
    {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
     "assistant": "assistant"},
)  # fmt: skip
"""ShareGPT exports, as FastChat and its successors read them."""


class SharegptOptions(TurnsOptions):
    """Options of ShareGPT's format."""

    kind: str = "sharegpt"
    conversations: Annotated[
        Column, Field(description="The column with the list of turns, each `from` and `value`, or its JSON.")
    ] = "conversations"


class Sharegpt(Turns[SharegptOptions]):
    """`{"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}`; turns of tools are refused."""

    kind, holds, shape = "sharegpt", "conversations", SHAREGPT
    Options: ClassVar = SharegptOptions
    reads = Turns.reads | {"conversations"}
