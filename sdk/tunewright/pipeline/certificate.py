"""What is measured of a form that may be served, against what was trained, and what makes it unfit to be handed over.

A form is asked what the trained one was asked: golden prompts one by one, and the test rows of every evaluation. The
answers are compared token by token, the scores by row, and where the engine tells them the distributions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from typing import Any, NamedTuple

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Evaluator, Graded, Item, mean_of
from tunewright.parts.gate import AGREEMENT, KL, Score
from tunewright.stats.paired import compare, compare_all

LOSS = 0.02
"""Two points: what a form may lose of a score whose best is 1; of a larger one, or one that is better when it is
smaller, two percent."""
NEAR = 1e-3
"""Relative, and absolute: what a server's batches may change in the score of a given text."""
ALIKE = 0.9
"""Where no evaluation is shared: the least share of golden tokens that a form gives after the same words. Other types
and four bits that lose little stay well above it."""
APART = 0.05
"""Nats: as far as a form's distributions may be from the trained one's there, whatever its tokens are. Of weights in
another type it is thousandths, of four bits that answer as well hundredths."""
ENDED = "ended"
_TINY = 1e-6  # what fp32 cannot tell from nothing once it is the rest of a sum of 1
Distribution = Mapping[int, float]
"""Log-probabilities in nats of the likeliest tokens of one place, by id."""


class Answers(NamedTuple):
    """What one form answered: golden prompts, and each evaluation's items with its grades."""

    golden: Sequence[Completion]
    likeliest: Sequence[Sequence[Distribution]] | None = None
    """Of each golden answer of the trained form, token by token; None where the engine does not tell."""
    graded: Mapping[Evaluator, Sequence[Graded]] = {}
    taken_over: bool = False
    """Whether `graded` is what the trained form was asked, and not asked anew: it is a score, and nothing else."""

    def asked(self, other: Answers) -> Answers:
        """What stands here of all that was asked of another one."""
        return self.only(()) if other.taken_over else self

    def only(self, evaluators: Collection[Evaluator]) -> Answers:
        """Without the evaluations that another form was not asked."""
        return self._replace(graded={one: rows for one, rows in self.graded.items() if one in evaluators})

    def said(self) -> list[Completion]:
        """Every answer in the model's own words, in one order."""
        graded = (one for evaluator, rows in self.graded.items() if evaluator.asks for one in rows)
        return [*self.golden, *(one.answer for one in graded)]


class Metric(NamedTuple):
    """A metric of an evaluation, the trained form against this one."""

    name: str
    score: Score


def certificate(trained: Answers, form: Answers, base: Answers | None, seed: int) -> dict[str, Any]:
    """A form's row of the certificate, as plain JSON; `base` is what the base answered to the test rows, or
    to the golden prompts.

    `scores` holds a paired `Score` each, in which `base` is the trained form's and `tuned` this form's: of every metric
    of every evaluation, of `agreement`, and of `kl`. `delta` and `ci95` are those of the first metric. `refused` are
    the reasons for which it is not handed over; where there is none, it is. What its engine was not asked is not there,
    and answers that were taken over are not counted.
    """
    trained, base = trained.only(form.graded), None if base is None else base.only(form.graded)
    before, after = trained.asked(form), form.asked(form)
    answers = compared(before.said(), after.said())
    scores = {AGREEMENT: _agreement(before, after, seed)}
    if trained.likeliest is not None and form.likeliest is not None:
        scores[KL] = _divergences(trained.likeliest, form.likeliest, seed)
    metrics = list(_metrics(trained, form, seed))
    scores |= {metric.name: metric.score for metric in metrics}
    first = metrics[0].score if metrics else None
    refused = [*_unlike(trained, form, base, answers), *_unended(before, after, seed), *_lost(metrics)]
    return {
        **answers,
        KL: scores[KL].tuned if KL in scores else None,
        "delta": None if first is None else first.delta,
        "ci95": None if first is None else list(first.ci95),
        "scores": {name: asdict(score) for name, score in scores.items()},
        "refused": refused or list(_strayed(trained.golden, form.golden, scores.get(KL)) if not metrics else ()),
    }


def unmeasured(why: str) -> dict[str, Any]:
    """The row of a form that was not measured: `why` is a sentence, and the reason to leave it out."""
    nothing = {"prompts": 0, "diverged": 0, "first_divergence": None, "retokenized": 0, "unended": 0}
    return {AGREEMENT: 0.0, **nothing, KL: None, "delta": None, "ci95": None, "scores": {}, "refused": [why]}


def compared(reference: Sequence[Completion], other: Sequence[Completion]) -> dict[str, Any]:
    """How near a form's answers are to the trained form's, as numbers.

    `agreement`: share of tokens; `prompts`: how many were asked; `diverged`: of how many the answer is another, or the
    prompt's token ids are; `first_divergence`: the earliest token, counted from 0, at which an answer is another one,
    None where none is; `retokenized`: of how many the prompt's token ids are others; `unended`: how many answers run on
    to the limit where the trained form's end.
    """
    pairs = list(zip(reference, other, strict=True))
    places = [place for one, two in pairs if (place := divergence(one, two)) is not None]
    return {
        AGREEMENT: agreement(reference, other),
        "prompts": len(reference),
        "diverged": len(places),
        "first_divergence": min(places, default=None),
        "retokenized": sum(one.prompt_ids != two.prompt_ids for one, two in pairs),
        "unended": sum((one.stopped, two.stopped) == ("terminator", "limit") for one, two in pairs),
    }


def divergence(one: Completion, two: Completion) -> int | None:
    """The first token, counted from 0, that two answers differ in; 0 for prompts of other ids, None for equal ones."""
    if one.prompt_ids != two.prompt_ids:
        return 0
    pairs = zip_longest(one.ids, two.ids)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), None)


def agreement(reference: Sequence[Completion], other: Sequence[Completion]) -> float:
    """Share of the reference's answer tokens that the other gives at the same place; 0 for a prompt of other ids."""
    total = sum(len(answer.ids) for answer in reference)
    return sum(map(_same, reference, other)) / total if total else 1.0


def _same(one: Completion, two: Completion) -> int:
    """Tokens of the first answer that the second gives at the same place."""
    return sum(a == b for a, b in zip(one.ids, two.ids, strict=False)) if one.prompt_ids == two.prompt_ids else 0


def kl(reference: Distribution, other: Distribution) -> float:
    """Kullback-Leibler divergence in nats of `other` from `reference`, as far as the named tokens tell: never more than
    the whole one, and near it where they hold nearly all the chance.

    The larger of two lower bounds. Of the tokens that both name and all others taken together: taking outcomes together
    lowers it (Cover and Thomas, Elements of Information Theory, 2006, section 2.8). And of each token that the
    reference names, where one that `other` does not name has there at most the chance of its least likely named one.
    """
    both = reference.keys() & other.keys()
    named = sum(math.exp(reference[token]) * (reference[token] - other[token]) for token in both)
    rest, theirs = (max(0.0, 1 - sum(math.exp(one[token]) for token in both)) for one in (reference, other))
    least = min(other.values(), default=0.0)
    alone = sum(math.exp(reference[token]) * (reference[token] - least) for token in reference.keys() - both)
    left = max(0.0, 1 - sum(map(math.exp, reference.values())))
    return max(0.0, named + _taken_together(rest, theirs), named + alone + _taken_together(left, theirs))


def _taken_together(one: float, other: float) -> float:
    return one * math.log(one / max(other, _TINY)) if one > _TINY else 0.0


def _agreement(trained: Answers, form: Answers, seed: int) -> Score:
    """Weighted by tokens, with an answer as the unit of chance."""

    def side(other: Sequence[Completion]) -> list[Graded]:
        pairs = enumerate(zip(trained.said(), other, strict=True))
        return [_graded(place, {"same": _same(one, two), "of": len(one.ids)}) for place, (one, two) in pairs]

    return compare(side(trained.said()), side(form.said()), AGREEMENT, _weighted, seed)


def _weighted(rows: Sequence[Graded]) -> float:
    of = sum([row.grades["of"] for row in rows])  # lists: called thousands of times, and generators take twice as long
    return sum([row.grades["same"] for row in rows]) / of if of else 1.0


def _divergences(trained: Sequence[Sequence[Distribution]], form: Sequence[Sequence[Distribution]], seed: int) -> Score:
    """Mean over the golden answers of each one's mean over its tokens."""
    means = [sum(map(kl, one, two)) / len(one) for one, two in zip(trained, form, strict=True) if one]
    none = [_graded(place, {KL: 0.0}) for place in range(len(means))]
    found = [_graded(place, {KL: mean}) for place, mean in enumerate(means)]
    return compare(none, found, KL, mean_of(KL), seed, lower_is_better=True)


def _graded(place: int, grades: Mapping[str, float]) -> Graded:
    return Graded(Item(str(place), "", "", ""), Completion([], "", "given", []), grades)


def _metrics(trained: Answers, form: Answers, seed: int) -> Iterator[Metric]:
    """Every metric of every evaluation."""
    for evaluator, before in trained.graded.items():
        for metric, score in compare_all(evaluator, before, form.graded[evaluator], seed):
            yield Metric(f"{evaluator.name}.{metric}", score)


def _unlike(trained: Answers, form: Answers, base: Answers | None, found: Mapping[str, Any]) -> Iterator[str]:
    """Reasons that show in the answers alone."""
    if found["retokenized"]:
        yield (
            f"{found['retokenized']} of {found['prompts']} prompts become other tokens: its template or its tokenizer "
            "is not the one that was trained with"
        )
    if base is not None and _like(form, base) and not _like(trained, base):
        what = "test row" if base.graded else "golden prompt"
        yield f"it answers every {what} as the base does: what was trained is not in it"


def _like(form: Answers, base: Answers) -> bool:
    """Whether it answers as the base did: every test row that both were asked, else every golden prompt."""
    if not base.graded:
        return bool(base.golden) and [one.ids for one in form.golden] == [one.ids for one in base.golden]
    sides = ((evaluator, form.graded[evaluator], rows) for evaluator, rows in base.graded.items())
    return all(alike(evaluator, *both) for evaluator, *rows in sides for both in zip(*rows, strict=True))


def alike(evaluator: Evaluator, one: Graded, other: Graded) -> bool:
    """Whether two models answer an item alike: by the tokens they say, or the grades of texts they score."""
    if evaluator.asks:
        return one.answer.ids == other.answer.ids
    pairs = ((grade, other.grades.get(metric, math.nan)) for metric, grade in one.grades.items())
    return all(math.isclose(here, there, rel_tol=NEAR, abs_tol=NEAR) for here, there in pairs)


def _strayed(trained: Sequence[Completion], form: Sequence[Completion], apart: Score | None) -> Iterator[str]:
    """Golden answers that are others, where no evaluation tells whether they are worse.

    Each counts up to the first token that differs: what comes after follows other words, and one near-tie would count
    as the whole rest of an answer. And where the distributions tell that it was a near-tie, it is none of these.
    """
    places = [divergence(one, two) for one, two in zip(trained, form, strict=True)]
    same = sum(len(one.ids) if place is None else place for one, place in zip(trained, places, strict=True))
    others = len(places) - places.count(None)
    if same >= ALIKE * (same + others) or (apart is not None and apart.tuned <= APART):
        return
    told = "" if apart is None else f", its distributions are {apart.tuned:.2g} nats away (at most {APART})"
    yield (
        f"no evaluation speaks for it, and {others} of {len(places)} golden answers are others: it gives the trained "
        f"form's token in {same / (same + others):.0%} of the places that follow the same words (at least {ALIKE:.0%} "
        f"would do){told}; add an evaluation that its engine can serve, as `evals: [{{kind: heldout}}]`, and the "
        "scores decide"
    )


def _unended(trained: Answers, form: Answers, seed: int) -> Iterator[str]:
    """Answers that run on to the limit more often than the trained form's, and not by chance.

    Golden prompts, which are drawn from the test rows, are looked at where no row is answered in the model's own words.
    """
    pairs = list(zip(trained.said(), form.said(), strict=True))
    if any(_ends(one) and not _ends(two) for one, two in pairs) and not any(_ends(two) for _, two in pairs):
        yield "none of its answers ends: it does not know the token that ends an answer"
        return
    for what, before, after in _answered(trained, form):
        score = compare(_ending(before), _ending(after), ENDED, mean_of(ENDED), seed)
        if score.delta < 0 and score.beyond_chance:
            theirs, run_on = (sum(not _ends(one.answer) for one in side) for side in (before, after))
            yield (
                f"{run_on} of {score.n} answers to {what} run on to the limit, and {theirs} of the trained form's "
                f"(p {score.p_value:.2g}): it does not always know the token that ends an answer"
            )


def _answered(trained: Answers, form: Answers) -> Iterator[tuple[str, Sequence[Graded], Sequence[Graded]]]:
    """What both answered in their own words, by evaluation: the unit in which rows stand for themselves."""
    said = {evaluator: _said(rows) for evaluator, rows in trained.graded.items() if evaluator.asks and _said(rows)}
    for evaluator, rows in said.items():
        yield evaluator.name, rows, _said(form.graded[evaluator])
    if not said:
        yield "golden prompts", _bare(trained.golden), _bare(form.golden)


def _said(rows: Sequence[Graded]) -> list[Graded]:
    return [one for one in rows if one.answer.stopped != "given"]


def _bare(answers: Sequence[Completion]) -> list[Graded]:
    return [Graded(Item(str(place), "", "", ""), answer, {}) for place, answer in enumerate(answers)]


def _ending(rows: Sequence[Graded]) -> list[Graded]:
    return [replace(one, grades={ENDED: float(_ends(one.answer))}) for one in rows]


def _ends(answer: Completion) -> bool:
    return answer.stopped == "terminator"


def _lost(metrics: Sequence[Metric]) -> Iterator[str]:
    """Scores that are worse by more than may be, and not by chance."""
    for name, score in metrics:
        less = score.lower_is_better
        room = LOSS * (abs(score.base) if less else max(1.0, abs(score.base)))
        worse = score.delta if less else -score.delta
        if worse > room + 1e-9 and score.beyond_chance:
            low, high = score.ci95
            yield (
                f"{name} falls behind: {score.tuned:.3f} where the trained form has {score.base:.3f} on {score.n} rows "
                f"(95 % {low:+.3f} to {high:+.3f}, p {score.p_value:.2g})"
            )
