"""`unpaired`: a conversation, what was answered, and whether it was wanted: TRL's unpaired preferences in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import BadInput
from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Feedback
from tunewright_basics.feedback import Label, wanted
from tunewright_basics.template import LEAVE_OUT, Column, columns_in, fields_by_column, fill, first, works
from tunewright_basics.turns import OPENAI, System, conversation, is_turns, learnt, question, with_system


class UnpairedOptions(Options):
    """Options of judged conversations."""

    kind: str = "unpaired"
    system: System = None
    prompt: Annotated[
        Column, Field(description="The column of what is asked: turns of `role` and `content`, their JSON, or a text.")
    ] = "prompt"
    completion: Annotated[
        Column, Field(description="The column of the answer that was judged: one turn of the assistant in a list.")
    ] = "completion"
    label: Label = "label"


class Unpaired(PromptFormat[UnpairedOptions]):
    """A judged answer a row, as TRL's KTO reads it: https://huggingface.co/docs/trl/dataset_formats.

    Of texts in place of messages, `feedback` makes the same.
    """

    kind, makes = "unpaired", "feedback"
    Options: ClassVar = UnpairedOptions
    reads = frozenset({"system", "prompt", "completion", "label"})
    vary: ClassVar = {"system": (None, "Answer briefly.")}

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if not is_turns(first(head, "completion"), OPENAI) or not works(cls(UnpairedOptions()), head):
            return None
        return "format: {kind: unpaired}  # `completion` holds turns, `label` is yes or no"

    def columns(self) -> Mapping[str, str]:
        named = {getattr(self.options, name): name for name in ("label", "completion", "prompt")}
        return {**fields_by_column(self.options, ["system"]), **named}

    def prompt_columns(self) -> frozenset[str]:
        return columns_in(self.options.system) | {self.options.prompt}

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        system = self.options.system
        asked = question(fields, self.options.prompt)
        return with_system(asked, None if system is None else fill(system, fields))

    def example(self, fields: Mapping[str, Any]) -> Feedback:
        """Raises `BadInput` where the completion is more than an answer."""
        asked, column = self.prompt(fields), self.options.completion
        found = learnt([*asked, *conversation(fields, column)], "last")
        if found.prompt != asked:
            why = f"column `{column}` holds more than an answer: only one turn was judged"
            raise BadInput(why, fix=f"put the turns before it into `{self.options.prompt}`, or {LEAVE_OUT}")
        return Feedback(asked, found.completion, wanted(fields, self.options.label))
