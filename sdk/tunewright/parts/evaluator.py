"""What is asked of a model and how answers are graded. Torch-free: an evaluator never sees a model.

Most evaluators have questions and grade the model's own answers: `items`, `grade` and `summaries`, and the core does
the asking. One that needs how likely given texts are overrides `measure` and calls `Subject.score`.

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
                yield Item(row.id, row.origin, row.example.asked, row.example.answer, row.group)

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
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, PositiveInt, WithJsonSchema
from pydantic_core import PydanticCustomError

from tunewright.parts.base import Backend, Cap, Json, Name, Need, Options, Unkeyed
from tunewright.parts.engine import Completion, Engine, Subject
from tunewright.parts.prompt_format import AnyExample, RowKind, Text
from tunewright.spec.model import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_ANSWER = 32
PartOf = Annotated[Part, WithJsonSchema({"x-part": True})]
"""A part within another part's options, with the mark by which `tunewright.schema` puts its contract."""


class EvaluatorOptions(Options):
    """The fields of every evaluator that the core itself reads."""

    name: Annotated[Name | None, Field(description="Prefix of its scores; by default the kind.")] = None
    # `Unkeyed`: the backends that these become are keyed by what they are and by what they hold
    format: Annotated[
        PartOf | None, Unkeyed(), Field(description="How its rows become questions; by default `data.format`.")
    ] = None
    test: Annotated[list[PartOf], Unkeyed(), Field(description="Rows of its own; by default `data.test`.")] = []
    engine: Annotated[
        PartOf | None, Unkeyed(), Field(description="Who asks base and tuned; by default the engine of `model.loader`.")
    ] = None
    max_new_tokens: Annotated[PositiveInt, Field(description="Longest answer in tokens.")] = LONGEST_ANSWER


def _unwritten(value: int) -> int:
    """Only the default, as a lock has it: an option that does nothing is refused, not ignored."""
    if value != LONGEST_ANSWER:
        raise PydanticCustomError("nothing_generated", "This evaluation generates nothing: leave `max_new_tokens` out")
    return value


class ScoringOptions(EvaluatorOptions):
    """Base of the options of an evaluator that scores given texts and lets the model say none."""

    max_new_tokens: Annotated[
        PositiveInt,
        AfterValidator(_unwritten),
        Field(description="Nothing is generated: leave it out.", json_schema_extra={"const": LONGEST_ANSWER}),
    ] = LONGEST_ANSWER


E = TypeVar("E", bound=EvaluatorOptions)


class TestRow(NamedTuple):
    """A row of the spec's test data, as an example."""

    id: str
    origin: str
    example: AnyExample
    group: str | None = None
    fields: Mapping[str, Json] = {}
    """The row's own columns, for evaluators that grade by more than the answer."""


@dataclass(frozen=True)
class Item:
    """One question with its reference answer.

    `choices` are the answers to choose from, where it has some; `task` names the part of an evaluation that it belongs
    to, where the evaluation has several. `own` is the question alone, for a prompt that has examples of its own before
    it: what the search for questions that were learnt compares, in place of the prompt.
    """

    id: str
    origin: str
    prompt: Text
    reference: str
    group: str | None = None
    choices: tuple[str, ...] = ()
    task: str | None = None
    own: Text | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))  # JSON knows lists alone


TIED = "tied"
"""The grade that is 1 where the likeliest of an item's choices are equally likely: counted and shown, no score."""


@dataclass(frozen=True)
class Graded:
    """An item, what the model answered or what was scored, and its grades by metric: finite numbers.

    An item has no grade in a metric that does not concern it, as the metric of another task.
    """

    item: Item
    answer: Completion
    grades: Mapping[str, float]


Summary = Callable[[Sequence[Graded]], float]
Progress = Callable[[int, int], None]
"""Hears how many are done, and of how many."""


def mean_of(metric: str) -> Summary:
    """The summary that averages a grade over the items that have it. Raises ZeroDivisionError where none has."""

    def mean(graded: Sequence[Graded]) -> float:
        having = [g.grades[metric] for g in graded if metric in g.grades]
        return sum(having) / len(having)

    return mean


@dataclass(frozen=True)
class OfSums:
    """A summary that is made of sums over the items, as F1 is of counts: resamples add sums up and grade nothing again.

    `terms` gives what each item adds, a matrix of items × sums, NumPy's or a sparse one of SciPy's; what its columns
    mean may depend on the items that are given together, as a column for each label does. `score` makes scores of sums,
    one a row of the matrix that it gets, NaN where there is none. Of a part of the items it must score the sums of that
    part as the part alone would be scored. Called as any summary; raises ZeroDivisionError where there are no items.
    """

    terms: Callable[[Sequence[Graded]], Any]
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, graded: Sequence[Graded]) -> float:
        if not graded:
            raise ZeroDivisionError("a score of no items")
        return self.of(self.terms(graded))

    def of(self, terms: Any) -> float:
        """The score of the items that these rows of `terms` are of."""
        import numpy as np

        sums = np.asarray(terms.sum(axis=0), dtype=np.float64).reshape(1, -1)  # of a sparse matrix it is a `matrix`
        return float(self.score(sums)[0])


def serves(engine: Engine, evaluator: Evaluator) -> bool:
    """Whether an engine can do what an evaluator asks of it."""
    return all(need.cap in engine.offers() for need in evaluator.needs() if need.part == engine.part)


class Evaluator(Backend[E]):
    """Makes items, grades answers, and names how grades become scores; pairing and intervals are the core's."""

    part: ClassVar[str] = "evaluator"
    consumes: ClassVar[tuple[RowKind, ...]] = ("messages", "completion")
    """Kinds of the rows that it understands; `()` for one that brings questions of its own.

    Such a one is given no rows, needs no `data.test`, and is refused a `format` or `test`, which nothing would read.
    """
    asks: ClassVar[bool] = True
    """Whether the model answers in its own words, of at most `max_new_tokens` tokens. Else given texts are scored."""

    @property
    def name(self) -> str:
        """Prefix of its scores."""
        return getattr(self.options, "name", None) or self.kind

    def columns(self) -> Mapping[str, str]:
        """Every column of the test rows that it reads itself, with the option's field that names it."""
        return {}

    def needs(self) -> Iterable[Need]:
        """What it needs of the engine that asks for it, and of the spec's other parts.

        One that asks and scores as well adds `Cap.SCORES` to what this gives.
        """
        if not self.asks:
            fix = "leave `engine` out, or take one that scores: `tunewright plugins show engine/KIND` tells"
            yield Need("engine", Cap.SCORES, "engine-cannot-score", fix)

    @abstractmethod
    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        """The questions; ids are unique. One that `consumes` no rows gets none.

        Called before a model is loaded: what cannot be asked is refused here.
        """

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        """Ask every item and grade its answer; one `Graded` an item, in order.

        An evaluator that asks otherwise, as by `subject.score`, overrides this and needs no `grade`. What it does must
        depend on `subject` and `data` alone: base and tuned are measured apart, and paired by the items' ids.
        """
        items = list(self.items(data))
        prompts, limits = [item.prompt for item in items], [self.limit(item) for item in items]
        answers = subject.complete(prompts, limits, lambda done: progress(done, len(items)))
        return [Graded(item, answer, self.grade(item, answer)) for item, answer in zip(items, answers, strict=True)]

    def limit(self, item: Item) -> int:
        """Longest answer to one item, in tokens."""
        return self.options.max_new_tokens

    def grade(self, item: Item, answer: Completion) -> dict[str, float]:
        """Grades of one answer, by metric. Every evaluator has this or a `measure` of its own."""
        raise NotImplementedError(f"{type(self).__name__} needs `grade`, or a `measure` of its own")

    def label(self, item: Item, text: str) -> str | None:
        """The label that a text is taken for as an answer to `item`; None where it is none of the item's labels, or the
        item is not graded by label. By default the text itself, surrounding white space apart.

        By it the report tells what was taken for what, of tasks whose grades agree with it, and whether one answer to
        everything would do as well. One that reads answers less strictly than by their whole text overrides it.
        """
        return text.strip()

    @abstractmethod
    def summaries(self) -> Mapping[str, Summary]:
        """How the grades of all items become each score, by metric; every chosen metric is here."""

    def lower_is_better(self) -> frozenset[str]:
        """Those of its metrics that a better model makes smaller, such as a perplexity."""
        return frozenset()

    def largest(self) -> Mapping[str, float]:
        """What each metric can be at most, of those whose scores and grades are from 0 to a known bound: 1 of a share
        of right answers, 2 of Brier's score. A metric without a bound, as a perplexity, is not named.

        Of grades between known bounds an interval has a width also where few items, or none, changed: it takes 1 for a
        metric that is not named while all its grades are from 0 to 1. A gate whose bound lies beyond what is named here
        is refused, such as a margin of 5 where 0.05 is meant.
        """
        return {}

    def biased(self) -> Mapping[str, str]:
        """Those of its metrics that are off by an amount that depends on the model, and the metric to compare by.

        The difference of two such scores is no estimate of what changed, however many items there are: it is shown
        without interval and p-value, and gates that compare refuse it.
        """
        return {}
