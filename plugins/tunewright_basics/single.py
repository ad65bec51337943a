"""What the formats of one prompt and its completions have in common: a conversation of one turn, or plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from tunewright.parts import Options, PromptFormat
from tunewright.parts.prompt_format import Text
from tunewright_basics.template import (
    AnyTemplate,
    Template,
    answer,
    asked,
    columns_in,
    fields_by_column,
    fill,
    fill_some,
)


class SingleOptions(Options):
    """What every format of one prompt and its completions reads."""

    system: Annotated[AnyTemplate | None, Field(description="System message; {column} substitutes.")] = None
    prompt: Annotated[Template, Field(description="What is asked; {column} substitutes, {{ is literal.")] = "{prompt}"
    plain: Annotated[
        bool, Field(description="Plain text, without the model's chat template, rather than a conversation.")
    ] = False

    @field_validator("plain")
    @classmethod
    def _no_system(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("system") is not None:
            raise ValueError("plain text has no system message: write what `system` says into `prompt`")
        return value


O = TypeVar("O", bound=SingleOptions)


class Single(PromptFormat[O]):
    """A prompt that `texts` answer, each the name of an option."""

    reads = frozenset({"system", "prompt", "plain"})
    vary: ClassVar = {
        "system": (None, "Answer with one word."), "prompt": ("{prompt}", "Route this: {prompt}"),
        "plain": (False, True),
    }  # fmt: skip
    texts: ClassVar[tuple[str, ...]]

    def columns(self) -> Mapping[str, str]:
        return fields_by_column(self.options, (*self.texts, "prompt", "system"))

    def prompt_columns(self) -> frozenset[str]:
        return columns_in(self.options.prompt, self.options.system)

    def prompt(self, fields: Mapping[str, Any]) -> Text:
        question = fill_some(self.options.prompt, fields, "prompt")
        if self.options.plain:
            return question
        return asked(None if self.options.system is None else fill(self.options.system, fields), question)

    def said(self, fields: Mapping[str, Any], name: str) -> Text:
        """The completion that an option holds."""
        return answer(fill_some(getattr(self.options, name), fields, name), plain=self.options.plain)
