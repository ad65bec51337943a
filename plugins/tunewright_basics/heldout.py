"""`heldout`: the spec's test rows, asked and compared with their own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunewright.parts import Evaluator
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import EvaluatorOptions, Graded, Item, Summary, TestRow, mean_of

Metric = Literal["exact_match", "macro_f1"]


class HeldoutOptions(EvaluatorOptions):
    """Options of held-out evaluation."""

    kind: str = "heldout"
    metrics: Annotated[list[Metric], Field(min_length=1, description="Scores to make.")] = ["exact_match"]


class Heldout(Evaluator[HeldoutOptions]):
    """Asks every test row and grades the whole answer, surrounding white space apart."""

    kind = "heldout"
    Options: ClassVar = HeldoutOptions
    reads = frozenset({"metrics"})

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        for row in data:
            yield Item(row.id, row.origin, row.example.asked, row.example.answer, row.group)

    def grade(self, item: Item, answer: Completion) -> dict[str, float]:
        right = float(answer.text.strip() == item.reference.strip())
        return dict.fromkeys(self.options.metrics, right)

    def summaries(self) -> Mapping[str, Summary]:
        known: dict[str, Callable[[], Summary]] = {
            "exact_match": lambda: mean_of("exact_match"),
            "macro_f1": lambda: macro_f1,
        }
        return {metric: known[metric]() for metric in self.options.metrics}


def macro_f1(graded: Sequence[Graded]) -> float:
    """Mean over the reference labels of F1 = 2tp / (2tp + fp + fn).

    An answer that is no reference label counts as a miss of its row's label and adds no class of its own: a model
    that invents labels is not punished twice.
    """
    labels = {g.item.reference.strip() for g in graded}
    hits = dict.fromkeys(labels, 0)
    answers = dict.fromkeys(labels, 0)
    rows = dict.fromkeys(labels, 0)
    for g in graded:
        reference, answer = g.item.reference.strip(), g.answer.text.strip()
        rows[reference] += 1
        if answer in answers:
            answers[answer] += 1
        hits[reference] += answer == reference
    return sum(2 * hits[label] / (rows[label] + answers[label]) for label in labels) / len(labels)
