"""What is asked of a model and how answers are graded. Torch-free: an evaluator never sees a model.

A complete evaluator:

    from typing import Annotated

    from pydantic import Field
    from tunewright.parts import Evaluator
    from tunewright.parts.evaluator import EvaluatorOptions, Item, mean_of
    from tunewright.testing import check_evaluator

    class ContainsOptions(EvaluatorOptions):
        kind: str = "contains"
        ignore_case: Annotated[bool, Field(description="Capitals count as small letters.")] = True

    class Contains(Evaluator[ContainsOptions]):
        kind, Options = "contains", ContainsOptions
        reads = frozenset({"ignore_case"})
        vary = {"ignore_case": (True, False)}  # for the kit: values that must make a difference

        def items(self, data):
            for row in data:
                yield Item(row.id, row.origin, row.example.prompt, row.example.answer, row.group)

        def grade(self, item, answer):
            wanted, said = item.reference, answer.text
            if self.options.ignore_case:
                wanted, said = wanted.casefold(), said.casefold()
            return {"contains": float(wanted in said)}

        def summaries(self):
            return {"contains": mean_of("contains")}  # the score `contains.contains`

    def test_it_keeps_its_contract(tmp_path):
        rows = [{"text": "where is my parcel", "label": "delivery"}]
        check_evaluator(Contains, rows=rows, answers=["Delivery, I think."], folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field, PositiveInt

from tunewright.parts.base import Backend, Json, Name, O, Options
from tunewright.parts.engine import Completion
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example


class EvaluatorOptions(Options):
    """The fields of every evaluator that the core itself reads."""

    name: Annotated[Name | None, Field(description="Prefix of its scores; by default the kind.")] = None
    max_new_tokens: Annotated[PositiveInt, Field(description="Longest answer in tokens.")] = 32


class TestRow(NamedTuple):
    """A row of the spec's test data, as an example."""

    id: str
    origin: str
    example: Example
    group: str | None = None
    fields: Mapping[str, Json] = {}
    """The row's own columns, for evaluators that grade by more than the answer."""


@dataclass(frozen=True)
class Item:
    """One question with its reference answer."""

    id: str
    origin: str
    prompt: list[Message]
    reference: str
    group: str | None = None


@dataclass(frozen=True)
class Graded:
    """An item, what the model answered, and its grades by metric."""

    item: Item
    answer: Completion
    grades: Mapping[str, float]


Summary = Callable[[Sequence[Graded]], float]


def mean_of(metric: str) -> Summary:
    """The summary that averages a grade over the items."""
    return lambda graded: sum(g.grades[metric] for g in graded) / len(graded)


class Evaluator(Backend[O]):
    """Makes items, grades answers, and names how grades become scores; pairing and intervals are the core's."""

    part: ClassVar[str] = "evaluator"

    @property
    def name(self) -> str:
        """Prefix of its scores."""
        return getattr(self.options, "name", None) or self.kind

    def columns(self) -> Mapping[str, str]:
        """Every column of the test rows that it reads itself, with the option's field that names it."""
        return {}

    @abstractmethod
    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        """The questions; ids are unique. An evaluator with items of its own ignores `data`."""

    @abstractmethod
    def grade(self, item: Item, answer: Completion) -> dict[str, float]:
        """Grades of one answer, by metric."""

    @abstractmethod
    def summaries(self) -> Mapping[str, Summary]:
        """How the grades of all items become each score, by metric; every chosen metric is here."""
