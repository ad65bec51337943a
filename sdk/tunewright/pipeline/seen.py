"""Which rows that are learnt are one, and which items of the evaluations stand among them: what a ledger says.

What is compared is what a prompt says of its own, without the instructions that its set has in common (see `data.own`).
Whether the answer was along is told apart: a question that was seen with its answer says less than one that was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.data.near import (
    CHARACTERS,
    LONG,
    PART,
    QUOTABLE,
    QUOTED_RUN,
    RUN,
    THRESHOLD,
    Found,
    look_up,
)
from tunewright.data.own import Common, Words, words, words_of
from tunewright.data.rows import Realised
from tunewright.parts import PromptFormat
from tunewright.parts.evaluator import Item
from tunewright.pipeline.inherited import Known, digest_of, joined
from tunewright.pipeline.rows import counted, example_of, once_each

KINDS = {"exact": "as they are", "near": "nearly", "contained": "within a longer row", "partial": "in large part"}
"""How an item may stand among the rows, the surest first, and how that is said."""
EXAMPLES = 20
"""Groups of rows of one training that a ledger names."""
METHOD = {
    "threshold": THRESHOLD,
    "characters": CHARACTERS,
    "words": RUN,
    "long": LONG,
    "quoted_words": QUOTED_RUN,
    "quotable": QUOTABLE,
    "part": PART,
}
"""What the figures of `data.near` are, as a ledger calls them."""


class Learnt(NamedTuple):
    """The rows of a training, by source, and the format by which they become examples.

    Or, where it `chooses`, rows that are not learnt and choose among checkpoints.
    """

    name: str
    format: PromptFormat
    sources: Sequence[Realised]
    chooses: bool = False


class Row(NamedTuple):
    """A row that is learnt, by its words."""

    source: str
    origin: str
    prompt: Words
    answer: Words

    @property
    def asked(self) -> Words:
        """What is compared: the prompt, or of a row without one all of it."""
        return self.prompt or self.answer


class Question(NamedTuple):
    """An item of an evaluation, by its words; examples that its prompt shows before it are not among them."""

    evaluation: str
    item: Item
    prompt: Words
    reference: Words

    @property
    def asked(self) -> Words:
        """As of a row."""
        return self.prompt or self.reference


class Place(NamedTuple):
    """Where a question stands: in which row of which training, how, and how much of it."""

    kind: str
    similarity: float
    training: Learnt
    row: Row

    def answers(self, question: Question) -> bool:
        """Whether the reference is there too: in the row's answer, or for a quoted question anywhere in the row."""
        there = [*self.row.prompt, *self.row.answer] if self.kind == "contained" else self.row.answer
        return bool(question.reference) and f" {' '.join(question.reference)} " in f" {' '.join(there)} "


def ledger(
    trainings: Sequence[Learnt], items: Mapping[str, Sequence[Item]], parent: Known | None = None
) -> dict[str, Any]:
    """`trainings` and `evaluations`, as plain data: what was compared, and what was found.

    Of each evaluation, `looked` are the items that were looked up among all that was learnt, and `unlooked` counts the
    others: those of which the ledger of the `parent` that the training goes on from says nothing.

    Raises ModuleNotFoundError where datasketch is not installed.
    """
    rows = {training.name: list(_rows(training)) for training in trainings}
    questions = [
        Question(name, item, words_of(item.prompt if item.own is None else item.own), words(item.reference))
        for name, some in items.items()
        for item in some
    ]
    common = Common([*_by_set(rows), *_by_evaluation(questions)])
    asked = [common.own(question.asked) for question in questions]
    places: list[list[Place]] = [[] for _ in questions]
    told = []
    for training in trainings:
        shown = rows[training.name]
        own = [common.own(row.asked) for row in shown]
        found, hits = look_up(own, ([*row.prompt, *row.answer] for row in shown), asked)
        for hit in hits:
            places[hit.item].append(Place(hit.kind, hit.similarity, training, shown[hit.row]))
        told.append(_training(training, shown, found))
    evaluations: dict[str, dict[str, Any]] = {
        name: {"items": len(some), "found": [], "looked": [], "unlooked": 0} for name, some in items.items()
    }
    for question, some in zip(questions, places, strict=True):
        _tell(evaluations[question.evaluation], question, some, parent)
    return {"trainings": told, "evaluations": evaluations}


def _tell(looked: dict[str, Any], question: Question, places: Sequence[Place], parent: Known | None) -> None:
    """Put what is known of one question into what is told of its evaluation."""
    item = digest_of(question.prompt, question.reference)
    found = _found(question, places) if places else None
    if parent is not None and item in parent.found:
        found = joined(found, parent.found[item], list(KINDS))
    if found is not None:
        looked["found"].append({**found, "id": question.item.id, "origin": question.item.origin, "item": item})
    if parent is None or item in parent.looked:
        looked["looked"].append(item)
    else:
        looked["unlooked"] += 1


def _rows(training: Learnt) -> Iterator[Row]:
    """Each row once: the copies that `epochs` and weights make of it are the same row."""
    for source in training.sources:
        for row in once_each([source]):
            example = example_of(training.format, row)
            yield Row(source.name, row.origin, words_of(example.asked), words(example.answer))


def _by_set(rows: Mapping[str, Sequence[Row]]) -> list[list[Words]]:
    """What is asked in the rows of each source of each training."""
    found: dict[tuple[str, str], list[Words]] = {}
    for training, some in rows.items():
        for row in some:
            found.setdefault((training, row.source), []).append(row.asked)
    return list(found.values())


def _by_evaluation(questions: Sequence[Question]) -> list[list[Words]]:
    found: dict[str, list[Words]] = {}
    for question in questions:
        found.setdefault(question.evaluation, []).append(question.asked)
    return list(found.values())


def _training(training: Learnt, rows: Sequence[Row], found: Found) -> dict[str, Any]:
    """What is said of the rows of one training among themselves.

    `equal` and `near` count rows that are equal to an earlier one, and that are in a group with an earlier one without
    being equal to it; `otherwise` counts those of the equal ones whose answer is another than the first one's.
    """
    repeated = [place for some in found.equal for place in some[1:]]
    firsts = [(some[0], place) for some in found.equal for place in some[1:]]
    grouped = sum(len(group) - 1 for group in found.groups)
    return {
        "name": training.name,
        "rows": len(rows),
        "equal": len(repeated),
        "otherwise": sum(rows[first].answer != rows[place].answer for first, place in firsts),
        "near": grouped - len(repeated),
        "groups": len(found.groups),
        "sources": counted(training.sources),
        "examples": [[rows[place].origin for place in group[:EXAMPLES]] for group in found.groups[:EXAMPLES]],
    }


def _found(question: Question, places: Sequence[Place]) -> dict[str, Any]:
    """The surest of the places, and how many rows there are; `answer` says whether the reference is in any of them.

    `learnt` is false where all of them only choose among checkpoints.
    """
    surest = min(places, key=lambda place: (list(KINDS).index(place.kind), -place.similarity))
    return {
        "kind": surest.kind,
        "similarity": surest.similarity,
        "training": surest.training.name,
        "source": surest.row.source,
        "row": surest.row.origin,
        "rows": len(places),
        "learnt": any(not place.training.chooses for place in places),
        "answer": any(place.answers(question) for place in places),
    }
