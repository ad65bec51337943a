"""The kit for what grades answers and what judges scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tunewright.parts import Evaluator, Gate
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TIED, Graded, Item, OfSums, TestRow
from tunewright.parts.gate import Evidence, Score, Verdict
from tunewright.testing.desk import Desk
from tunewright.testing.invented import ODD, Invented
from tunewright.testing.samples import ROWS, Fields, held_out
from tunewright.testing.trial import Attempt, Exercise, Make
from tunewright.testing.violations import Report

SAME = 1e-9  # relative: what the order of a floating-point sum may change
MOST = 3  # items that are graded over and over


class EvaluatorExercise(Exercise):
    """Items of test rows: graded against answers that are right, wrong, empty and odd; or, where the evaluator has a
    `measure` of its own, measured on invented models."""

    part = "evaluator"

    def __init__(self, rows: Sequence[Fields] | None = None, answers: Sequence[str] | None = None) -> None:
        self.fields, self.answers = ROWS if rows is None else rows, answers
        self.rows = held_out(self.fields)

    def run(self, made: Evaluator, desk: Desk, report: Report) -> Any:
        self.rows = held_out(self.fields, made.consumes[0]) if made.consumes else []
        items = list(made.items(self.rows))
        if not report.expect(bool(items), "bad-contract", "`items` asks nothing of the sample: give it other `rows`"):
            return {}
        ids = [item.id for item in items]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        says = f"two items have the id `{', '.join(twice)}`: scores are paired by it"
        report.expect(not twice, "items-not-told-apart", says)
        turned = sorted(item.id for item in made.items(self.rows[::-1]))
        report.expect(
            turned == sorted(ids), "items-depend-on-order", "`items` asks other items when rows are turned round"
        )
        graded = self._graded(made, items, report)
        scores = self._scores(made, graded, report)
        unknown = sorted(made.lower_is_better() - set(made.summaries()))
        says = f"`lower_is_better` names {', '.join(unknown)}, which `summaries` does not make"
        report.expect(not unknown, "metrics-differ", says)
        biased, instead = set(made.biased()), set(made.biased().values())
        unknown = sorted((biased | instead) - set(made.summaries()) | biased & instead)
        says = f"`biased` names {', '.join(unknown)}, which `summaries` does not make, or which is biased itself"
        report.expect(not unknown, "metrics-differ", says)
        _refuse_beyond(made, graded, scores, report)
        grades = [dict(one.grades) for one in graded]
        return {"name": made.name, "items": [vars(item) for item in items], "grades": grades, "scores": scores}

    def _graded(self, made: Evaluator, items: Sequence[Item], report: Report) -> list[Graded]:
        if _measures(made):
            return self._measured(made, items, report)
        if not report.expect(
            type(made).grade is not Evaluator.grade, "bad-contract", "it has neither `grade` nor a `measure` of its own"
        ):
            return []
        graded = [Graded(item, answer, made.grade(item, answer)) for item, answer in self._answered(items)]
        self._heeds(made, items, report)
        unlike = sorted((_metrics(graded) | {TIED}) ^ (set(made.summaries()) | {TIED}))
        says = f"`grade` and `summaries` disagree on the metrics: {', '.join(unlike)} is in one of them alone"
        report.expect(not unlike, "metrics-differ", says)
        return graded

    def _measured(self, made: Evaluator, items: Sequence[Item], report: Report) -> list[Graded]:
        """What it makes of one model, which must not be what it makes of every other one."""
        heard: list[tuple[int, int]] = []
        graded = made.measure(Invented(0, self.answers), self.rows, lambda done, of: heard.append((done, of)))
        kind = all(isinstance(one, Graded) for one in graded)
        if not report.expect(kind, "bad-contract", "`measure` gives what is no `Graded`"):
            return []
        says = "`measure` grades other items than `items` names, or in another order"
        report.expect([one.item for one in graded] == list(items), "bad-contract", says)
        done = [one for one, _ in heard]
        whole = bool(heard) and done == sorted(done) and len({of for _, of in heard}) == 1 and done[-1] == heard[-1][1]
        says = f"`progress` heard {heard}: how many are done, of how many, up to the last"
        report.expect(whole, "progress-untrue", says)
        turned = made.measure(Invented(0, self.answers), self.rows[::-1], _unheard)
        # by their ids: items of an evaluator's own are in one order whatever the rows
        same = {one.item.id: one.grades for one in turned} == {one.item.id: one.grades for one in graded}
        says = "an item is graded otherwise when others are measured before it"
        report.expect(same, "non-deterministic", says)
        others = [made.measure(Invented(seed, self.answers), self.rows, _unheard) for seed in range(1, MOST + 1)]
        steady = all(
            one.grades.keys() == before.grades.keys()
            for other in others for one, before in zip(other, graded, strict=True)
        )  # fmt: skip
        says = "which metrics an item is graded in depends on the model: base and tuned would not pair"
        report.expect(steady, "metrics-differ", says)
        differ = any(one.grades != before.grades for other in others for one, before in zip(other, graded, strict=True))
        says = "every model gets the same grades: if that is right, give the check `rows` that make a difference"
        report.expect(differ, "answer-ignored", says)
        return graded

    def _heeds(self, made: Evaluator, items: Sequence[Item], report: Report) -> None:
        """Another answer makes another grade, for some item and some answer; the same answer makes the same one."""
        grades = []
        for item in items[:MOST]:
            texts = dict.fromkeys([*self._texts(item), item.reference, *ODD])
            answers = [Completion([1, 2, 3], text, "terminator", [1]) for text in texts]
            ahead = [made.grade(item, answer) for answer in answers]
            back = [made.grade(item, answer) for answer in answers[::-1]][::-1]
            says = "an answer is graded otherwise when others were graded before it"
            report.expect(ahead == back, "non-deterministic", says)
            steady = all(grade.keys() == ahead[0].keys() for grade in ahead)
            says = f"which metrics `{item.id}` is graded in depends on the answer: base and tuned would not pair"
            report.expect(steady, "metrics-differ", says)
            grades += [[dict(grade) for grade in ahead]]
        differ = any(grade != of_item[0] for of_item in grades for grade in of_item)
        says = "every answer gets the same grades: if that is right, give the check `answers` that make a difference"
        report.expect(differ, "answer-ignored", says)

    def _texts(self, item: Item) -> Sequence[str]:
        return self.answers or (item.reference, f" {item.reference}\n", *ODD)

    def _answered(self, items: Sequence[Item]) -> Iterator[tuple[Item, Completion]]:
        """Right answers, right ones between spaces, and odd ones; or the given ones, in turn."""
        for place, item in enumerate(items):
            texts = self._texts(item)
            yield item, Completion([1, 2, 3], texts[place % len(texts)], "terminator", [1])

    def _scores(self, made: Evaluator, graded: Sequence[Graded], report: Report) -> dict[str, float]:
        summaries, scores = made.summaries(), dict[str, float]()
        if not graded:  # said above
            return scores
        for one in graded:
            bad = [f"{name} = {value}" for name, value in one.grades.items() if not _is_number(value)]
            report.expect(not bad, "not-finite", f"`grade` gives {', '.join(bad)}: grades are finite numbers")
        for metric, summary in summaries.items():
            try:
                value, turned = summary(graded), summary(graded[::-1])
            except (KeyError, ZeroDivisionError) as error:  # the second from `mean_of`, where no item has the grade
                if _measures(made):  # else it was said above
                    lacks = str(error) if isinstance(error, KeyError) else repr(metric)
                    says = f"the score `{metric}` is made of the grade {lacks}, which `measure` does not give"
                    report.add("metrics-differ", says)
                continue
            if report.expect(_is_number(value), "not-finite", f"the score `{metric}` is {value}: scores are finite"):
                same = math.isclose(value, turned, rel_tol=SAME, abs_tol=SAME)
                report.expect(same, "items-depend-on-order", f"the score `{metric}` depends on the order of the items")
            if isinstance(summary, OfSums):
                of_sums = summary.of(summary.terms(graded)[::2])
                same = math.isclose(of_sums, summary(graded[::2]), rel_tol=SAME, abs_tol=SAME)
                says = f"the score `{metric}` of a part of the items is not that of their sums: it cannot be resampled"
                report.expect(same, "bad-contract", says)
            scores[metric] = value
        return scores

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made = make()
        for kind in made.consumes[1:]:
            yield Attempt(f"rows of kind {kind}", partial(_use, made, held_out(self.fields, kind)))
        if _measures(made):
            return
        for item in list(made.items(self.rows))[:1]:
            for text in ODD:
                answer = Completion([], text, "limit", [])
                yield Attempt(f"the answer {text[:20]!r}", partial(made.grade, item, answer))


def _measures(made: Evaluator) -> bool:
    """Whether it asks by itself."""
    return type(made).measure is not Evaluator.measure


def _refuse_beyond(made: Evaluator, graded: Sequence[Graded], scores: Mapping[str, float], report: Report) -> None:
    """By `largest`, gates are refused: what lies beyond it would be refused wrongly."""
    largest = made.largest()
    unknown = sorted(set(largest) - set(made.summaries()))
    says = f"`largest` names {', '.join(unknown)}, which `summaries` does not make"
    report.expect(not unknown, "metrics-differ", says)
    for metric, most in largest.items():
        found = [one.grades[metric] for one in graded if metric in one.grades] + [scores.get(metric, 0.0)]
        beyond = [value for value in found if not 0 <= value <= most]
        says = f"`largest` says that `{metric}` is from 0 to {most:g}, and it is {beyond[0] if beyond else 0:g}"
        report.expect(not beyond, "bad-contract", says)


def _metrics(graded: Sequence[Graded]) -> set[str]:
    """Every metric that any item is graded in: not each concerns every item."""
    return {metric for one in graded for metric in one.grades}


def _use(made: Evaluator, rows: Sequence[TestRow]) -> None:
    list(made.items(rows))
    if _measures(made):
        made.measure(Invented(0, None), rows, _unheard)


def _unheard(done: int, of: int) -> None:
    """Progress that nobody looks at."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


SCORES = [
    Score(40, 0.4, t, t - 0.4, (t - 0.5, t - 0.3), 0.01, tuned_ci95=(max(0.0, t - 0.25), min(1.0, t + 0.25)))
    for t in (0.0, 0.3, 0.7, 0.95, 1.0)
]
HIGH = SCORES[3]
OTHER = "other.metric"
"""A score that no gate of the sample asks for."""


class Seen(Evidence):
    """Evidence that notes which of its scores are asked for."""

    def __init__(self, scores: Mapping[str, Score]) -> None:
        super().__init__(scores, scores.contamination if isinstance(scores, Evidence) else None)
        self.read = set[str]()

    def __getitem__(self, name: str) -> Score:
        self.read.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.read.add(name)
            yield name


class GateExercise(Exercise):
    """Verdicts on low, middling and high scores, on none, and on scores that are no numbers."""

    part = "gate"

    def __init__(self, evidence: Mapping[str, Score] | None = None) -> None:
        self.evidence = evidence

    def run(self, made: Gate, desk: Desk, report: Report) -> Any:
        metrics = made.metrics()
        verdicts = [self._verdict(made, evidence, report) for evidence in self._sets(metrics)]
        if self.evidence is None and metrics:
            passed = {verdict.passed for verdict in verdicts}
            says = "every score from 0 to 1 gets the same verdict: give the check `options` under which it does not"
            report.expect(len(passed) == 2, "evidence-ignored", says)
        self._missing(made, metrics, report)
        self._no_numbers(made, metrics, report)
        return {"metrics": sorted(metrics), "verdicts": [vars(verdict) for verdict in verdicts]}

    def _sets(self, metrics: frozenset[str]) -> Sequence[Mapping[str, Score]]:
        if self.evidence is not None:
            return [self.evidence]
        return [dict.fromkeys([*sorted(metrics), OTHER], score) for score in SCORES]

    def _verdict(self, made: Gate, evidence: Mapping[str, Score], report: Report) -> Verdict:
        seen = Seen(evidence)
        verdict = made.judge(seen)
        hidden = sorted(seen.read - made.metrics())
        says = f"`judge` reads `{', '.join(hidden)}`, which `metrics` does not name: `validate` cannot check it"
        report.expect(not hidden, "metrics-not-declared", says)
        said = isinstance(verdict, Verdict) and isinstance(verdict.passed, bool) and verdict.gate and verdict.why
        says = f"`judge` gives {verdict!r}: a Verdict says what was asked and what was found, and whether it passed"
        report.expect(bool(said), "bad-contract", says)
        return verdict

    def _missing(self, made: Gate, metrics: frozenset[str], report: Report) -> None:
        whole = dict.fromkeys(sorted(metrics), HIGH)
        for left_out in (None, *sorted(metrics)):
            there = {} if left_out is None else {name: score for name, score in whole.items() if name != left_out}
            passed = made.judge(Evidence(there)).passed if metrics else False
            says = f"it passes without the score `{left_out or ', '.join(sorted(metrics))}`: missing evidence must fail"
            report.expect(not passed, "missing-evidence-passes", says)

    def _no_numbers(self, made: Gate, metrics: frozenset[str], report: Report) -> None:
        nan = float("nan")
        unknown = Evidence(dict.fromkeys(metrics, Score(40, nan, nan, nan, (nan, nan), nan)))
        passed = metrics and made.judge(unknown).passed
        report.expect(not passed, "nan-passes", "it passes on a score that is NaN: what is no number must fail")
