"""What the scores mean, in sentences: where a gain is one of form, where a set shows nothing, and what the gain cost.

Every sentence rests on a test, and on the interval beside it, never on a difference alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from tunewright.errors import Refused
from tunewright.parts.evaluator import Evaluator, Graded
from tunewright.parts.gate import Score
from tunewright.pipeline.confusion import labelled, right_metrics
from tunewright.stats.majority import Majority, majority, share, short

NEAR_ZERO = 0.05
"""Share of right answers of a base that may merely not know what form an answer has."""
MUCH = 0.25
"""Share of the gain that examples alone must bring to be called much of it."""
MOST_TASKS = 8
"""Uninformative tasks of one evaluation that have a sentence each; those of more share one."""
ACCURACY = "accuracy"
"""What an evaluation that lets the model choose among given answers calls the share of right ones."""


class Answered(NamedTuple):
    """An evaluation with the answers of both sides to the same items."""

    evaluator: Evaluator
    base: Sequence[Graded]
    tuned: Sequence[Graded]


class Shown(NamedTuple):
    """A baseline that is the base with `examples` before each question: its scores against the bare base, which is
    `base` in them, by `<evaluation>.<metric>`."""

    examples: int
    scores: Mapping[str, Score]


def readings(scores: Mapping[str, Score], shown: Sequence[Shown], answered: Sequence[Answered], seed: int) -> list[str]:
    """The sentences, in a fixed order; none where there is nothing to say. Equal arguments give equal sentences."""
    found = [*_by_examples(scores, shown), *_by_choosing(scores, answered, seed)]
    of_form = {one.score for one in found if one.of_form}
    told = [one.sentence for one in found if one.of_form or one.score not in of_form]
    return [*told, *_lazy(answered, seed), *_fallen(scores)]


class _Found(NamedTuple):
    """Whether much of the gain of a score is the form of the answer. One proof is enough: what does not find it says
    nothing against what does."""

    score: str
    of_form: bool
    said: str

    @property
    def sentence(self) -> str:
        much, no = "much of the gain is the form of the answer", "it does not merely miss the form of the answer"
        return f"{self.said}: {much if self.of_form else no}"


def _by_examples(scores: Mapping[str, Score], shown: Sequence[Shown]) -> Iterator[_Found]:
    """What a few examples alone bring, where the tuned model gains."""
    for examples, them in shown:
        for name, score in them.items():
            gained = scores[name]
            if not _is_share(gained) or not _is_share(score) or not _better(gained):
                continue
            with_examples = f"{examples} example{'s' if examples > 1 else ''}"
            said = f"the base has {share(score.base)} of {name}, and {share(score.tuned)} with {with_examples}"
            if _better(score) and score.delta / gained.delta >= MUCH:
                yield _Found(name, True, said)
            elif score.base <= NEAR_ZERO and not _gained(score):
                yield _Found(name, False, said)


def _by_choosing(scores: Mapping[str, Score], answered: Sequence[Answered], seed: int) -> Iterator[_Found]:
    """A base that writes next to nothing right, and finds the right answer among given ones more often than chance.

    Where the one that chooses has several tasks, as of a suite, each is held against the score of that task alone.
    """
    choosing = [one for one in answered if not one.evaluator.asks and all(ACCURACY in g.grades for g in one.base)]
    parts = [part for one in choosing for part in _by_task(one)]
    for own in answered:
        if not own.evaluator.asks:
            continue
        for other, score in parts:
            metric = _metric_of(own, other)
            name = f"{own.evaluator.name}.{metric}"
            if metric is None or scores[name].base > NEAR_ZERO or not _better(scores[name]):
                continue
            try:
                found = majority((), other.base, ACCURACY, seed)
            except Refused:  # partly right, and no choice among several: what one answer would score is not known
                continue
            chosen = found.score
            always = f"always `{short(found.label)}`: {share(chosen.base)}"
            said = (
                f"the base has {share(scores[name].base)} of {name}, and finds {share(chosen.tuned)} where it only "
                f"has to choose ({score}; {always})"
            )
            if _better(chosen) or not _gained(chosen):  # else so few items that nothing is known
                yield _Found(name, _better(chosen), said)


def _lazy(answered: Sequence[Answered], seed: int) -> Iterator[str]:
    """Tasks of labels on which the tuned model does not beat one answer to everything."""
    for one in answered:
        tasks, told = 0, dict[str, str]()
        for task in labelled(*one, least=1):
            tasks += 1
            try:
                found = majority((), task.tuned, task.metric, seed)
            except Refused:  # partly right, and no choice among several: what one answer would score is not known
                continue
            if not found.beaten:
                told[task.score] = f"{task.score} is {_shown(found)}"
        if len(told) <= MOST_TASKS:
            yield from told.values()
        else:
            names = ", ".join(list(told)[:MOST_TASKS])
            yield (
                f"{len(told)} of {tasks} tasks of {one.evaluator.name} are uninformative, for the majority class is "
                f"not beaten: {names} and {len(told) - MOST_TASKS} more"
            )


def _shown(found: Majority) -> str:
    if found.classes > 1:
        return str(found)
    return (
        f"uninformative: all {found.score.n:,} references are `{short(found.label)}`, so that one answer to everything "
        f"gives {share(found.score.base)}, tuned {share(found.score.tuned)}"
    )


def _fallen(scores: Mapping[str, Score]) -> Iterator[str]:
    """Scores that are worse than before, beyond chance."""
    price = ": the price of the gain" if any(map(_better, scores.values())) else ""
    for name, score in scores.items():
        if not _worse(score):
            continue
        small, large = sorted(map(abs, score.ci95))
        verb = "rose" if score.delta > 0 else "fell"
        if _is_share(score):
            by, interval = f"{100 * abs(score.delta):.1f} points", f"95 % {100 * small:.1f} to {100 * large:.1f}"
        else:
            by, interval = f"{abs(score.delta):.3g}", f"95 % {small:.3g} to {large:.3g}"
        less = ", where less is better" if score.lower_is_better else ""
        yield f"{name} {verb} by {by} ({interval}){less}{price}"


def _better(score: Score) -> bool:
    return score.beyond_chance and _gained(score)


def _worse(score: Score) -> bool:
    return score.beyond_chance and _lost(score)


def _gained(score: Score) -> bool:
    """Whether all of the interval is better than no difference."""
    low, high = score.ci95
    return high < 0 if score.lower_is_better else low > 0


def _lost(score: Score) -> bool:
    low, high = score.ci95
    return low > 0 if score.lower_is_better else high < 0


def _is_share(score: Score) -> bool:
    """Whether it is told in percent: both sides and their intervals are within 0 and 1."""
    values = (score.base, score.tuned, *(score.base_ci95 or ()), *(score.tuned_ci95 or ()))
    return all(0 <= value <= 1 for value in values) and abs(score.delta) <= 1


def _by_task(answered: Answered) -> Iterator[tuple[Answered, str]]:
    """An evaluation that chooses, in its tasks with the score of each; whole, where they have none."""
    tasks = dict.fromkeys(one.item.task for one in answered.base)
    if not tasks.keys() <= answered.evaluator.summaries().keys():
        yield answered, f"{answered.evaluator.name}.{ACCURACY}"
        return
    for task in tasks:
        ids = {one.item.id for one in answered.base if one.item.task == task}
        yield _part(answered, ids), f"{answered.evaluator.name}.{task}"


def _metric_of(own: Answered, other: Answered) -> str | None:
    """The metric of `own` that is of right and wrong over the questions of `other` and no more. One that wants the very
    reference comes first; others may read `Billing.` as `billing`."""
    asked, found = _questions(other), list[str]()
    for metric in own.evaluator.summaries():
        part = _part(own, {one.item.id for one in own.base if metric in one.grades})
        if _questions(part) == asked and _is_right_or_wrong(part, metric):
            found.append(metric)
    exact = right_metrics(own.evaluator, [*own.base, *own.tuned]) if _questions(own) == asked else iter(())
    return next(exact, None) or next(iter(found), None)


def _part(answered: Answered, ids: AbstractSet[str]) -> Answered:
    """The answers of both sides to these items."""
    base, tuned = ([one for one in side if one.item.id in ids] for side in (answered.base, answered.tuned))
    return Answered(answered.evaluator, base, tuned)


def _questions(answered: Answered) -> dict[str, str]:
    return {one.item.id: one.item.reference.strip() for one in answered.base}


def _is_right_or_wrong(answered: Answered, metric: str) -> bool:
    """Whether it is 1 for the reference, and 0 or 1 for any other answer."""
    return all(
        one.grades[metric] in ((1,) if one.answer.text.strip() == one.item.reference.strip() else (0, 1))
        for one in (*answered.base, *answered.tuned)
    )
