"""`preference`: a prompt and two completions of it, the better and the worse, each a text with columns in braces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import BadInput
from tunewright.parts.base import Head
from tunewright.parts.prompt_format import Preference
from tunewright_basics.single import Single, SingleOptions
from tunewright_basics.template import LEAVE_OUT, Template
from tunewright_basics.turns import holds_text


class PreferenceOptions(SingleOptions):
    """Options of the preference format."""

    kind: str = "preference"
    chosen: Annotated[Template, Field(description="The better completion; {column} substitutes.")] = "{chosen}"
    rejected: Annotated[Template, Field(description="The worse completion; {column} substitutes.")] = "{rejected}"


class Preferences(Single[PreferenceOptions]):
    """A pair a row. Both completions answer the same prompt."""

    kind, makes = "preference", "preference"
    Options: ClassVar = PreferenceOptions
    reads = Single.reads | {"chosen", "rejected"}
    vary: ClassVar = {
        **Single.vary, "chosen": ("{chosen}", "It is {chosen}."), "rejected": ("{rejected}", "It is {rejected}."),
    }  # fmt: skip
    texts = ("rejected", "chosen")

    @classmethod
    def guess(cls, head: Head) -> str | None:
        if not all(holds_text(head, column) for column in ("prompt", "chosen", "rejected")):
            return None
        return "format: {kind: preference}  # `prompt`, `chosen` and `rejected` hold texts"

    def example(self, fields: Mapping[str, Any]) -> Preference:
        chosen, rejected = self.said(fields, "chosen"), self.said(fields, "rejected")
        if chosen == rejected:
            raise BadInput("`chosen` and `rejected` are the same text: there is nothing to prefer", fix=LEAVE_OUT)
        return Preference(self.prompt(fields), chosen, rejected)
