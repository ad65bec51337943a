"""`completion`: a prompt and what follows it, both plain text, for models without a chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Options, PromptFormat
from tunewright.parts.prompt_format import Example
from tunewright_basics.template import Template, columns_in, fields_by_column, fill_some


class CompletionOptions(Options):
    """Options of the completion format."""

    kind: str = "completion"
    prompt: Annotated[
        Template, Field(description="What is given, as it stands: no template is put around it; {column} substitutes.")
    ]
    completion: Annotated[
        Template, Field(description="What is learnt, joined to the prompt without a space; {column} substitutes.")
    ]


class Completion(PromptFormat[CompletionOptions]):
    """Plain text that is gone on with; the model's end-of-text token is learnt after it."""

    kind, makes = "completion", "completion"
    Options: ClassVar = CompletionOptions
    reads = frozenset({"prompt", "completion"})
    vary: ClassVar = {"prompt": ("{text} →", "Text: {text} →"), "completion": (" {label}", " the {label}")}

    def columns(self) -> Mapping[str, str]:
        return fields_by_column(self.options, ("completion", "prompt"))

    def prompt_columns(self) -> frozenset[str]:
        return columns_in(self.options.prompt)

    def prompt(self, fields: Mapping[str, Any]) -> str:
        return fill_some(self.options.prompt, fields, "prompt")

    def example(self, fields: Mapping[str, Any]) -> Example:
        return Example(self.prompt(fields), fill_some(self.options.completion, fields, "completion"))
