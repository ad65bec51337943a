"""`feedback`: a prompt, a completion, and whether it was wanted: a thumb up or down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import BadInput
from tunewright.parts.base import Head
from tunewright.parts.prompt_format import Feedback
from tunewright_basics.single import Single, SingleOptions
from tunewright_basics.template import Column, Template, first
from tunewright_basics.turns import holds_text

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
"""How a label may be written, in whatever case; JSON's own `true`, `false`, 1 and 0 as well."""


Label = Annotated[
    Column, Field(description="Column that says whether it was wanted: true or false, yes or no, 1 or 0.")
]


class FeedbackOptions(SingleOptions):
    """Options of the feedback format."""

    kind: str = "feedback"
    completion: Annotated[Template, Field(description="The completion that was judged; {column} substitutes.")] = (
        "{completion}"
    )
    label: Label = "label"


class Feedbacks(Single[FeedbackOptions]):
    """A judged completion a row; no pairs are needed."""

    kind, makes = "feedback", "feedback"
    Options: ClassVar = FeedbackOptions
    reads = Single.reads | {"completion", "label"}
    vary: ClassVar = {**Single.vary, "completion": ("{completion}", "It is {completion}.")}
    texts = ("completion",)

    @classmethod
    def guess(cls, head: Head) -> str | None:
        texts = all(holds_text(head, column) for column in ("prompt", "completion"))
        if not texts or _word(first(head, "label")) not in WORDS:
            return None
        return "format: {kind: feedback}  # `prompt` and `completion` hold texts, `label` is yes or no"

    def columns(self) -> Mapping[str, str]:
        return {**super().columns(), self.options.label: "label"}

    def example(self, fields: Mapping[str, Any]) -> Feedback:
        return Feedback(self.prompt(fields), self.said(fields, "completion"), wanted(fields, self.options.label))


def wanted(fields: Mapping[str, Any], column: str) -> bool:
    """What a column says of the completion. Raises `BadInput` where it says neither yes nor no."""
    value = fields.get(column)
    if value is None:
        raise BadInput(f"the row has no value in column `{column}`")
    if _word(value) not in WORDS:
        fix = "write true or false, yes or no, 1 or 0"
        raise BadInput(f"column `{column}` is `{str(value)[:40]}`, neither yes nor no", fix=fix)
    return WORDS[_word(value)]


def _word(value: Any) -> str:
    return str(value).strip().lower()
