"""`preferred`: how often the model finds the better of two completions the likelier one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunewright.data.mask import refuse_unproven, tokenize
from tunewright.parts import Evaluator
from tunewright.parts.engine import Continuation, Subject
from tunewright.parts.evaluator import Graded, Item, Progress, ScoringOptions, Summary, TestRow, mean_of
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Preference
from tunewright.parts.trainer import PairRow
from tunewright_basics.scored import example_of, given, item_of


class PreferredOptions(ScoringOptions):
    """Options of preferred."""

    kind: str = "preferred"
    by: Annotated[
        Literal["sum", "mean"],
        Field(
            description="`sum` compares whole completions, as DPO learns them; `mean` compares nats a token, so that a "
            "completion is not the likelier one for being short."
        ),
    ] = "sum"


class Preferred(Evaluator[PreferredOptions]):
    """Scores both completions of each row after their prompt, terminators included, and compares.

    `accuracy` is the share of rows whose chosen completion is strictly likelier than the rejected one; `margin` is by
    how much, in nats (with `by: mean` in nats a token), on average over rows. Both are of the model alone: no reference
    is subtracted, as DPO's own "rewards" do, so base and tuned are on one scale. The grades of a row are these two and
    the log-probabilities `chosen` and `rejected`.

    Source: Rafailov et al., Direct preference optimization, 2023, for the sum; Meng et al., SimPO, 2024, for the mean.
    """

    kind = "preferred"
    Options: ClassVar = PreferredOptions
    consumes = ("preference",)
    asks = False
    reads = frozenset({"by"})

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        for row in data:
            example_of(self, row, Preference)
            yield item_of(row)

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        rows = [self._tokens(row, subject.tokenizer) for row in data]
        flat = [Continuation(row.prompt, side, row.origin) for row in rows for side in (row.chosen, row.rejected)]
        scores = iter(subject.score(flat, lambda done: progress(done // 2, len(rows))))
        return [self._graded(row, tokens, next(scores), next(scores)) for row, tokens in zip(data, rows, strict=True)]

    def _tokens(self, row: TestRow, tokenizer: Tokenizer) -> PairRow:
        example = example_of(self, row, Preference)
        tokens = tokenize(row.id, row.origin, example, tokenizer)
        refuse_unproven(tokens, example, tokenizer)
        return tokens

    def _graded(self, row: TestRow, tokens: PairRow, chosen: Sequence[float], rejected: Sequence[float]) -> Graded:
        better, worse = self._likelihood(chosen), self._likelihood(rejected)
        grades = {"accuracy": float(better > worse), "margin": better - worse, "chosen": better, "rejected": worse}
        item = item_of(row)
        return Graded(item, given(item, tokens.prompt, tokens.chosen), grades)

    def _likelihood(self, scores: Sequence[float]) -> float:
        total = math.fsum(scores)
        return total / len(scores) if self.options.by == "mean" else total

    def summaries(self) -> Mapping[str, Summary]:
        return {metric: mean_of(metric) for metric in ("accuracy", "margin")}

    def largest(self) -> Mapping[str, float]:
        return {"accuracy": 1.0}  # a margin of log-probabilities has no bound
