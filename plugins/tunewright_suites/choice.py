"""`suite-choice`: the labels and letters of a suite's items, by how likely the model finds each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.data.mask import continuation
from tunewright.grading.choosing import chosen
from tunewright.parts import Facts, Finding
from tunewright.parts.base import BadOption
from tunewright.parts.engine import Completion, Continuation, Subject
from tunewright.parts.evaluator import Graded, Item, Progress, ScoringOptions, Summary, TestRow, mean_of
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Example
from tunewright_suites import files
from tunewright_suites.evaluator import SuiteEvaluator, SuiteOptions


class SuiteChoiceOptions(ScoringOptions, SuiteOptions):
    """Options of suite-choice."""

    kind: str = "suite-choice"
    suite: Annotated[str | None, Field(description="Which of the installed suites.")] = None


class SuiteChoice(SuiteEvaluator):
    """Scores every label, or letter, after the prompt of each item of a suite that has some, as `choice` does for rows.

    It tells a model that cannot do a suite's tasks from one that does not know how to write the answer: nothing is
    generated. Beside `suite` with the same suite, the report says of each task which it is.

    `accuracy` is the mean over all these items, the name of each task that over its own; of k equally likely ones each
    counts 1/k. An item's grades are `probability` and `confidence` besides, for the calibration curve.

    It has items of its own, and `data.test` is not asked.

    Source: Brown et al., Language models are few-shot learners, 2020.
    """

    kind = "suite-choice"
    Options: ClassVar = SuiteChoiceOptions
    asks = False

    @property
    def name(self) -> str:
        """Prefix of its scores; by default the suite's name and `-choice`, so that `suite` may stand beside it."""
        if self.options.name:
            return self.options.name
        suite = self.options.suite or (self._readable.head.name if self.options.path and self._readable else None)
        return f"{suite}-choice" if suite else self.kind

    @property
    def _field(self) -> str:
        return "path" if self.options.path else "suite"

    def _installed(self) -> Path:
        if self.options.suite is None:
            known = files.installed()
            fix = f"write `suite: {known[0]}`; there are {', '.join(known)}; `path` takes a folder of your own"
            raise BadOption("missing-key", "it is not said which suite", "kind", fix)
        return super()._installed()

    def check(self, facts: Facts) -> Iterable[Finding]:
        found = list(super().check(facts))
        yield from found
        if not found and not self._tasks():
            message = f"no task of the suite `{self.suite.head.name}` has labels or letters to choose from"
            yield Finding("bad-value", message, self._field, "leave it out: `suite` asks such tasks")

    def _tasks(self) -> list[str]:
        """The tasks whose answers are one of several."""
        suite = self._readable
        return [] if suite is None else [name for name, task in suite.head.tasks.items() if task.form in CHOSEN]

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        return [item for item in super().items(data) if item.choices]

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        items = list(self.items(data))
        pieces = [_pieces(item, subject.tokenizer) for item in items]
        flat = [piece for some in pieces for piece in some]
        scores = iter(subject.score(flat, lambda done: progress(done, len(flat))))
        return [_graded(item, some, list(islice(scores, len(some)))) for item, some in zip(items, pieces, strict=True)]

    def summaries(self) -> Mapping[str, Summary]:
        return {metric: mean_of(metric) for metric in ("accuracy", *self._tasks())}

    def largest(self) -> Mapping[str, float]:
        return dict.fromkeys(self.summaries(), 1.0)


CHOSEN = frozenset({"label", "choice"})
"""Forms whose answers are one of several."""


def _pieces(item: Item, tokenizer: Tokenizer) -> list[Continuation]:
    """Each choice in the place of the answer, as training on it would see it."""
    return [
        continuation(item.id, item.origin, Example(item.prompt, [{"role": "assistant", "content": said}]), tokenizer)
        for said in item.choices
    ]


def _graded(item: Item, pieces: Sequence[Continuation], scores: Sequence[Sequence[float]]) -> Graded:
    place, grades = chosen([math.fsum(one) for one in scores], item.choices.index(item.reference))
    del grades["brier"]  # no score of a suite: the curve is made of the others
    answer = Completion(pieces[place].answer, item.choices[place], "given", pieces[place].prompt)
    return Graded(item, answer, grades | ({} if item.task is None else {item.task: grades["accuracy"]}))
