"""What one answer to everything would score. A set on which a model does not beat it says nothing of what was learnt.

found = majority(["yes", "no", "yes"], graded, "exact_match", seed=0)
if not found.beaten:
    print(found)  # uninformative: the majority class `yes` gives 55.2 %, tuned 53.0 % (500 rows, p = 0.43)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tunewright.errors import Refused
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, mean_of
from tunewright.parts.gate import Score
from tunewright.stats.paired import compare
from tunewright.stats.proportion import wilson

LEVEL = 0.05
LONGEST = 40  # characters of a label in a sentence


@dataclass(frozen=True)
class Majority:
    """A model beside the answer that is right most often; `str` of it is a sentence for the terminal and the report."""

    label: str
    """The commonest answer of the test rows: no other single answer scores more on them."""
    ci95: tuple[float, float]
    """Wilson's interval of its share."""
    learnt: str | None
    """The commonest answer of the rows that were learnt, on which a lazy model settles; None without any."""
    learnt_share: float
    """Share of the test rows on which `learnt` is right."""
    classes: int
    """How many different answers the test rows have."""
    score: Score
    """`base` is always `label`, `tuned` the model, paired by row."""

    @property
    def beaten(self) -> bool:
        """Whether the model is right more often, and chance does not explain it at 5 %."""
        return self.score.delta > 0 and self.score.p_value < LEVEL

    def __str__(self) -> str:
        score = self.score
        lazy = (
            ""
            if self.learnt in (None, self.label)
            else f" (`{short(self.learnt)}`, the most learnt, {share(self.learnt_share)})"
        )
        said = f"the majority class `{short(self.label)}` gives {share(score.base)}{lazy}, tuned {share(score.tuned)}"
        seen = f"{score.n:,} rows, p = {score.p_value:.2g}"
        if self.beaten:
            low, high = (100 * bound for bound in score.ci95)
            return f"{said}: {100 * score.delta:+.1f} points, 95 % {low:+.1f} to {high:+.1f} ({seen})"
        chance = ", which chance explains" if score.delta > 0 else ""
        return f"uninformative: {said}{chance} ({seen})"


def majority(learnt: Iterable[str], graded: Sequence[Graded], metric: str, seed: int) -> Majority:
    """The best single answer against the model that was graded, over the same rows.

    `learnt` are the answers of the training rows; `metric` names a grade that is 1 where an answer is right and 0 where
    it is wrong. White space around an answer does not count, and of equally common answers the first by alphabet is
    taken. The comparison is that of `compare`: McNemar's exact test, or a swap test over groups where rows share one.

    The best answer is chosen on the test rows themselves, so it is a bound and no model: what beats it beats the
    majority of whatever was learnt too.

    Raises `Refused` where the metric is no matter of right and wrong, and ValueError where no row has it.
    """
    graded = [one for one in graded if metric in one.grades]  # a metric need not concern every item
    if not graded:
        raise ValueError(f"no row is graded by `{metric}`, so there is no majority")
    if not all(_is_right_or_wrong(one, metric) for one in graded):
        raise Refused(
            f"`{metric}` does not grade answers as right or wrong, so that one answer to everything has no score in it",
            fix="compare with the majority by a metric such as exact match",
        )
    answers = Counter(one.item.reference.strip() for one in graded)
    label, count = _commonest(answers)
    known = Counter(answer.strip() for answer in learnt)
    usual = _commonest(known)[0] if known else None
    constant = [_answered(one, label, metric) for one in graded]
    return Majority(
        label=label,
        ci95=wilson(count, len(graded)),
        learnt=usual,
        learnt_share=0.0 if usual is None else answers[usual] / len(graded),
        classes=len(answers),
        score=compare(constant, graded, metric, mean_of(metric), seed),
    )


def _is_right_or_wrong(one: Graded, metric: str) -> bool:
    """A choice among several equally likely ones is partly right, and still the choice of one answer."""
    grade = one.grades[metric]
    return grade in (0, 1) or (one.item.reference in one.item.choices and 0 <= grade <= 1)


def _commonest(answers: Counter[str]) -> tuple[str, int]:
    return min(answers.items(), key=lambda one: (-one[1], one[0]))


def _answered(one: Graded, label: str, metric: str) -> Graded:
    """The row as if `label` had been answered."""
    right = float(one.item.reference.strip() == label)
    return replace(one, answer=Completion([], label, "given", []), grades={metric: right})


def short(label: str) -> str:
    """A label in a sentence: on one line, and no longer than it may be there."""
    line = " ".join(label.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def share(value: float) -> str:
    """A share of 1 in a sentence, in percent."""
    return f"{100 * value:.1f} %"
