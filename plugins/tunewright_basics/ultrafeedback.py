"""`ultrafeedback`: a prompt and two whole conversations that answer it, as UltraFeedback's binarized files have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import BadInput
from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Preference
from tunewright_basics.template import LEAVE_OUT, Column, columns_in, fields_by_column, fill, first, works
from tunewright_basics.turns import OPENAI, System, before_answer, conversation, is_turns, learnt, question, with_system


class UltrafeedbackOptions(Options):
    """Options of UltraFeedback's format."""

    kind: str = "ultrafeedback"
    system: System = None
    prompt: Annotated[
        Column | None,
        Field(
            description="The column of the question: a text, or the turns up to the answer; null where no column holds"
            " it, or the conversations have several turns and it a text: it is then what comes before the last answer."
        ),
    ] = "prompt"
    chosen: Annotated[
        Column,
        Field(
            description="The column of the better conversation, a list of `role` and `content`, or its JSON; the answer"
            " alone will do where `prompt` names a column."
        ),
    ] = "chosen"
    rejected: Annotated[Column, Field(description="The column of the worse conversation.")] = "rejected"


class Ultrafeedback(PromptFormat[UltrafeedbackOptions]):
    """Two conversations that differ in their last answer alone; a row in which they differ before is refused.

    TRL's conversational preferences are rows of it too: the question's turns in `prompt`, an answer in each other.
    Columns: https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized,
    https://huggingface.co/docs/trl/dataset_formats.
    """

    kind, makes = "ultrafeedback", "preference"
    Options: ClassVar = UltrafeedbackOptions
    reads = frozenset({"system", "prompt", "chosen", "rejected"})
    vary: ClassVar = {"system": (None, "Answer briefly.")}

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if not all(is_turns(first(head, column), OPENAI) for column in ("chosen", "rejected")):
            return None
        for column, without in (("prompt", ""), (None, ", prompt: null")):
            if works(cls(UltrafeedbackOptions(prompt=column)), head):
                return f"format: {{kind: ultrafeedback{without}}}  # `chosen` and `rejected` hold turns"
        return None

    def columns(self) -> Mapping[str, str]:
        names = [name for name in ("rejected", "chosen", "prompt") if getattr(self.options, name) is not None]
        return {**fields_by_column(self.options, ["system"]), **{getattr(self.options, name): name for name in names}}

    def prompt_columns(self) -> frozenset[str]:
        return columns_in(self.options.system) | {self.options.prompt or self.options.chosen}

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        if self.options.prompt is None:
            return before_answer(self._opened(conversation(fields, self.options.chosen), fields))
        return self._opened(question(fields, self.options.prompt), fields)

    def example(self, fields: Mapping[str, Any]) -> Preference:
        """Raises `BadInput` where the two answer different questions, or give the same answer."""
        asked, sides = self.prompt(fields), []
        for column in (self.options.chosen, self.options.rejected):
            found = learnt(self._whole(asked, conversation(fields, column), fields), "last")
            if found.prompt != asked:
                raise BadInput(f"column `{column}` answers another question than {self._asking()}", fix=self._fix())
            sides.append(found.completion)
        if sides[0] == sides[1]:
            raise BadInput("both conversations end with the same answer: there is nothing to prefer", fix=LEAVE_OUT)
        return Preference(asked, *sides)

    def _whole(self, asked: list[Message], turns: list[Message], fields: Mapping[str, Any]) -> list[Message]:
        """A column's conversation; an answer alone is one to what `prompt` asks."""
        alone = self.options.prompt is not None and all(turn["role"] == "assistant" for turn in turns)
        return [*asked, *turns] if alone else self._opened(turns, fields)

    def _opened(self, messages: list[Message], fields: Mapping[str, Any]) -> list[Message]:
        return with_system(messages, None if self.options.system is None else fill(self.options.system, fields))

    def _asking(self) -> str:
        return f"`{self.options.prompt or self.options.chosen}` asks"

    def _fix(self) -> str:
        return LEAVE_OUT if self.options.prompt is None else f"{LEAVE_OUT}; of several turns, use `prompt: null`"
