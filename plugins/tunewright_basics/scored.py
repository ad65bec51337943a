"""What evaluations share that score given texts: rows of the right kind, as exactly the tokens that are trained on."""

from __future__ import annotations

from typing import TypeVar

from tunewright.errors import BadInput
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Evaluator, Item, TestRow

X = TypeVar("X")


def example_of(evaluator: Evaluator, row: TestRow, wanted: type[X]) -> X:
    """The row's example. Raises `BadInput` where it is of a kind that the evaluator does not understand."""
    if isinstance(row.example, wanted):
        return row.example
    kinds, made = ", ".join(evaluator.consumes), type(row.example).__name__
    raise BadInput(
        f"{row.origin}: `{evaluator.name}` scores rows of kind {kinds}, and its format made `{made}`",
        fix=f"give `{evaluator.name}` a `format` that makes such rows, and with `test` rows of its own",
    )


def item_of(row: TestRow) -> Item:
    """What the evaluation is about, for the record: the prompt and the text that is scored after it."""
    return Item(row.id, row.origin, row.example.asked, row.example.answer, row.group)


def given(item: Item, prompt: list[int], ids: list[int]) -> Completion:
    """A text that was scored, in the place of an answer."""
    return Completion(ids, item.reference, "given", prompt)
