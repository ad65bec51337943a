"""`alpaca`: an instruction, an input that may be empty, and an output, as Stanford Alpaca's file has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import AnyTemplate, Column, asked, columns_in, fields_by_column, fill, text_of, value_of


class AlpacaOptions(Options):
    """Options of Alpaca's format."""

    kind: str = "alpaca"
    system: Annotated[AnyTemplate | None, Field(description="System message; {column} substitutes.")] = None
    instruction: Annotated[Column, Field(description="The column that says what to do.")] = "instruction"
    input: Annotated[
        Column | None,
        Field(description="The column of what to do it with, empty in some rows; null where no row has any."),
    ] = "input"
    output: Annotated[Column, Field(description="The column of the answer that is learnt.")] = "output"


class Alpaca(PromptFormat[AlpacaOptions]):
    """One turn: the instruction, below it the input after an empty line, and the output as the answer.

    The model's own chat template stands around them, not the prompt of the paper ("Below is an instruction …"): a
    model that is tuned by its template is asked by it. Columns: https://github.com/tatsu-lab/stanford_alpaca.
    """

    kind, makes = "alpaca", "messages"
    Options: ClassVar = AlpacaOptions
    reads = frozenset({"system", "instruction", "input", "output"})
    vary: ClassVar = {"system": (None, "Answer briefly."), "input": (None, "input")}

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if not {"instruction", "output"} <= set(head.columns):
            return None
        without = "" if "input" in head.columns else ", input: null"
        return f"format: {{kind: alpaca{without}}}  # columns `instruction` and `output`"

    def columns(self) -> Mapping[str, str]:
        names = [name for name in ("output", "input", "instruction") if getattr(self.options, name) is not None]
        return {**fields_by_column(self.options, ["system"]), **{getattr(self.options, name): name for name in names}}

    def prompt_columns(self) -> frozenset[str]:
        own = {self.options.instruction, *([] if self.options.input is None else [self.options.input])}
        return columns_in(self.options.system) | own

    def prompt(self, fields: Mapping[str, Any]) -> list[Message]:
        system = None if self.options.system is None else fill(self.options.system, fields)
        question = text_of(fields, self.options.instruction)
        given = "" if self.options.input is None else _or_nothing(fields, self.options.input)
        return asked(system, f"{question}\n\n{given}" if given.strip() else question)

    def example(self, fields: Mapping[str, Any]) -> Example:
        answer = {"role": "assistant", "content": text_of(fields, self.options.output)}
        return Example(self.prompt(fields), [answer])


def _or_nothing(fields: Mapping[str, Any], column: str) -> str:
    """The value's text; a row that has none has no input."""
    return "" if fields.get(column) is None else value_of(fields, column)
