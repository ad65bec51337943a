"""`choice`: which of given answers the model finds likeliest, whether or not it would have said any."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunewright.data.mask import continuation
from tunewright.errors import BadInput
from tunewright.grading import code
from tunewright.grading.calibration import gaps
from tunewright.grading.choosing import chosen
from tunewright.parts import Evaluator, Facts, Finding
from tunewright.parts.engine import Completion, Continuation, Subject
from tunewright.parts.evaluator import Graded, Item, OfSums, Progress, ScoringOptions, Summary, TestRow, mean_of
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Example
from tunewright_basics.scored import example_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLUMN = re.compile(r"\{([^{}]+)\}")


class ChoiceOptions(ScoringOptions):
    """Options of choice."""

    kind: str = "choice"
    choices: Annotated[
        list[str] | str | None,
        Field(
            description="The answers to choose from: a list, or `{column}` of a column that has a list for each row. "
            "By default all that the test rows have for answers, as is right for labels."
        ),
    ] = None
    normalise: Annotated[
        Literal["none", "tokens", "bytes"],
        Field(
            description="What a choice's log-likelihood is divided by, so that a long one is not less likely for being "
            "long: nothing, its tokens, or the bytes of its text in UTF-8."
        ),
    ] = "none"


class Choice(Evaluator[ChoiceOptions]):
    """Scores every choice after each row's prompt, its terminator included, as training on it would see it.

    It tells a model that cannot do the task from one that does not know how to write the answer: nothing is generated.
    It costs rows × choices; engines that keep what they read of a prompt read it once.

    | score | |
    |---|---|
    | `accuracy` | share of rows whose likeliest choice is the reference; of k equally likely ones each counts 1/k |
    | `probability` | of the reference, by the softmax over the choices' (normalised) log-likelihoods |
    | `brier` | squared distance of these probabilities from the truth, summed over choices; 0 to 2, less is better |
    | `ece` | expected calibration error of the likeliest choice's probability, ten equal bins; less is better |

    `ece` of a calibrated model is above 0 by chance, of a miscalibrated one hardly too high: its difference shows no
    change, and gates compare by `brier`.

    A row's grades are the first three, `confidence` (the likeliest choice's probability) and `tied`. Its answer in the
    record is the likeliest choice; of equal ones the first.

    Source: Brown et al., Language models are few-shot learners, 2020, for choices by likelihood; `bytes` as `acc_norm`
    of lm-evaluation-harness means it; Brier, Verification of forecasts expressed in terms of probability, 1950; Guo et
    al., On calibration of modern neural networks, 2017.
    """

    kind = "choice"
    Options: ClassVar = ChoiceOptions
    asks = False
    reads = frozenset({"choices", "normalise"})
    vary: ClassVar = {
        "choices": (None, ["account", "billing", "delivery", "none of these"]),
        "normalise": ("none", "bytes"),
    }

    def columns(self) -> Mapping[str, str]:
        column = self._column()
        return {column: "choices"} if column else {}

    def _column(self) -> str:
        """The column that has each row's choices; empty where none is named."""
        named = self.options.choices
        found = COLUMN.fullmatch(named.strip()) if isinstance(named, str) else None
        return found[1] if found else ""

    def check(self, facts: Facts) -> Iterable[Finding]:
        given = self.options.choices
        if isinstance(given, str) and not self._column():
            fix = "write a list, as `[yes, no]`, or the column that has one, as `{options}`"
            yield Finding("bad-value", f"`choices` is the text {given!r}", "choices", fix)
        if isinstance(given, list) and len(given) < 2:
            yield Finding("bad-value", "of fewer than two choices there is nothing to choose", "choices")

    def versions(self) -> dict[str, str]:
        return super().versions() | code()

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        everywhere = self._everywhere(data)
        for row in data:
            example_of(self, row, Example)
            choices = everywhere if everywhere is not None else self._of_row(row)
            reference = row.example.answer.strip()
            self._refuse(row, reference, choices)
            yield Item(row.id, row.origin, row.example.asked, reference, row.group, choices)

    def _everywhere(self, data: Sequence[TestRow]) -> tuple[str, ...] | None:
        """The choices of all rows; None where each has its own."""
        if isinstance(self.options.choices, list):
            return tuple(choice.strip() for choice in self.options.choices)
        if self._column():
            return None
        return tuple(sorted({row.example.answer.strip() for row in data}))

    def _of_row(self, row: TestRow) -> tuple[str, ...]:
        column = self._column()
        value = row.fields.get(column)
        if isinstance(value, str):  # as CSV has it
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            says = f"{row.origin}: the column `{column}` has no list of texts"
            raise BadInput(says, fix='write one, in a CSV file as JSON: ["yes", "no"]')
        return tuple(one.strip() for one in value)

    def _refuse(self, row: TestRow, reference: str, choices: Sequence[str]) -> None:
        if len(choices) < 2:
            raise BadInput(f"{row.origin}: there is one choice and no other", fix=f"give `{self.name}` two `choices`")
        twice = sorted({one for one in choices if choices.count(one) > 1})
        if twice or "" in choices:
            which = "is empty" if "" in choices else f"stands there twice: {twice[0]!r}"
            raise BadInput(f"{row.origin}: a choice {which}", fix="leave it out")
        if reference not in choices:
            shown = ", ".join(map(repr, islice(choices, 8)))
            raise BadInput(
                f"{row.origin}: the reference {reference!r} is none of the {len(choices)} choices {shown}",
                fix="mend the row, or `choices`",
            )

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        items = list(self.items(data))
        pieces = [
            [_scored(row, choice, subject.tokenizer) for choice in item.choices]
            for row, item in zip(data, items, strict=True)
        ]
        flat = [piece for some in pieces for piece in some]
        scores = iter(subject.score(flat, lambda done: progress(done, len(flat))))
        totals = [[math.fsum(next(scores)) for _ in some] for some in pieces]
        return list(map(self._graded, items, pieces, totals))

    def _graded(self, item: Item, pieces: Sequence[Continuation], totals: Sequence[float]) -> Graded:
        scores = [
            total / self._length(choice, piece)
            for choice, piece, total in zip(item.choices, pieces, totals, strict=True)
        ]
        place, grades = chosen(scores, item.choices.index(item.reference))
        piece = pieces[place]
        return Graded(item, Completion(piece.answer, item.choices[place], "given", piece.prompt), grades)

    def _length(self, choice: str, piece: Continuation) -> int:
        return {"none": 1, "tokens": len(piece.answer), "bytes": len(choice.encode())}[self.options.normalise]

    def summaries(self) -> Mapping[str, Summary]:
        means = {metric: mean_of(metric) for metric in ("accuracy", "probability", "brier")}
        return {**means, "ece": calibration_error}

    def lower_is_better(self) -> frozenset[str]:
        return frozenset({"brier", "ece"})

    def largest(self) -> Mapping[str, float]:
        return {"accuracy": 1.0, "probability": 1.0, "brier": 2.0, "ece": 1.0}

    def biased(self) -> Mapping[str, str]:
        # Each bin's gap is never negative, so that chance adds to a model without gaps and cancels in one with them.
        return {"ece": "brier"}


def _gaps(graded: Sequence[Graded]) -> Floats:
    """Of each bin, and last the one that counts the answers."""
    import numpy as np

    sure, right = ([g.grades[name] for g in graded] for name in ("confidence", "accuracy"))
    return np.hstack([gaps(sure, right), np.ones((len(graded), 1))])


def _of_gaps(sums: Floats) -> Floats:
    import numpy as np

    found: Floats = np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]
    return found


calibration_error = OfSums(_gaps, _of_gaps)
"""ECE of `confidence` against `accuracy`, as `grading.calibration.ece` has it."""


def _scored(row: TestRow, choice: str, tokenizer: Tokenizer) -> Continuation:
    """A choice in the place of the row's answer, with the white space that the format put around that."""
    asked, answer = row.example.asked, row.example.answer
    bare = answer.strip()
    before, _, after = answer.partition(bare) if bare else ("", "", "")
    said = f"{before}{choice}{after}"
    example = Example(asked, said if isinstance(asked, str) else [{"role": "assistant", "content": said}])
    return continuation(row.id, row.origin, example, tokenizer)
