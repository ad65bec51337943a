"""run --seeds: the same spec under several seeds, so that luck in training is told apart from luck in questions."""

from __future__ import annotations

from typing import NamedTuple

from tunewright.errors import BadInput
from tunewright.pipeline.compared import Compared
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.run import Result
from tunewright.resolve import Resolved


class Repeated(NamedTuple):
    """How the runs ended, that of the spec's own seed first, and how they compare."""

    results: list[Result]
    compared: Compared


def refuse_other_questions(resolved: Resolved) -> None:
    """Before hours are spent: raises `BadInput` where nothing is evaluated, or where the seed draws the questions."""
    if not resolved.evaluators:
        raise BadInput("seeds are compared by what the tuned models answer, and nothing is asked", fix="write `evals:`")
    for evaluator in resolved.evaluators:
        claims = resolved.asked[evaluator.name]
        if ClaimRows(claims, resolved.spec.seed).settings()["seed"] is not None:
            raise BadInput(
                f"the seed draws the rows that `{evaluator.name}` asks: under another seed they are others, and "
                "nothing can be compared",
                fix="give it test rows of their own, without `sample`, `weight` or a part of an epoch",
            )
