"""`text`: raw text that is learnt whole, as in pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import Template, columns_in, fields_by_column, fill_some


class TextOptions(Options):
    """Options of the text format."""

    kind: str = "text"
    text: Annotated[
        Template, Field(description="What is learnt, from its first token on; {column} substitutes, {{ is literal.")
    ] = "{text}"


class PlainText(PromptFormat[TextOptions]):
    """A text a row; each ends with the model's end-of-text token. A list of texts is a text of lines."""

    kind, makes = "text", "text"
    Options: ClassVar = TextOptions
    reads = frozenset({"text"})
    vary: ClassVar = {"text": ("{text}", "{text}\n\n{label}")}

    @classmethod
    def guess(cls, head: Head) -> str | None:
        return "format: {kind: text}  # `text` is the only column" if head.columns == ("text",) else None

    def columns(self) -> Mapping[str, str]:
        return fields_by_column(self.options, ["text"])

    def prompt_columns(self) -> frozenset[str]:
        return columns_in(self.options.text)

    def prompt(self, fields: Mapping[str, Any]) -> str:
        """The row's text: a model that learnt texts is asked to go on with one."""
        return fill_some(self.options.text, fields, "text")

    def example(self, fields: Mapping[str, Any]) -> Example:
        return Example("", self.prompt(fields))
