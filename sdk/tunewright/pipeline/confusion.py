"""Which label is taken for which: task by task, where answers are graded by their label, as a classifier's are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from tunewright.parts.evaluator import TIED, Evaluator, Graded

MOST_IN_A_MATRIX = 20
"""Labels; of more, the pairs that are most often confused are told instead."""
PAIRS = 20
LONGEST = 60  # characters: a reference that is longer is a text and no label
OTHER = None
"""What stands for an answer that is no label."""


class Labelled(NamedTuple):
    """A task whose answers are graded by their label: what both sides answered to its items, and the metric that is 1
    where the label is the reference's, else 0. `score` is what a sentence calls that metric of this task."""

    name: str
    score: str
    metric: str
    evaluator: Evaluator
    base: Sequence[Graded]
    tuned: Sequence[Graded]


def labelled(
    evaluator: Evaluator, base: Sequence[Graded], tuned: Sequence[Graded], *, least: int = 2
) -> Iterator[Labelled]:
    """The tasks of an evaluation that are graded by label, with `least` labels or more; the whole evaluation where it
    has no several.

    One is where its references are labels, and a metric agrees on every answer of both sides with what the evaluator
    takes the answer for: so spans, objects and requests to be declined have no labels, whatever their references are.
    """
    tasks = dict.fromkeys(one.item.task for one in tuned)
    for task in tasks:
        sides = [[one for one in side if one.item.task == task] for side in (base, tuned)]
        if not label_like(sides[1], least):
            continue
        metrics = list(right_metrics(evaluator, [*sides[0], *sides[1]]))
        if not metrics:
            continue
        others = {metric for one in tuned if one.item.task != task for metric in one.grades}
        metric = next((metric for metric in metrics if metric not in others), metrics[0])
        several = len(tasks) > 1 and task is not None
        shared = several and metric in others
        if shared and not label_like(sides[1]):
            continue  # one label here, another there: no one answer solves the score that they share
        of_task = f" on the task `{task}`" if shared else ""
        name = f"{evaluator.name}.{task}" if several else evaluator.name
        yield Labelled(name, f"{evaluator.name}.{metric}{of_task}", metric, evaluator, *sides)


def right_metrics(evaluator: Evaluator, graded: Sequence[Graded]) -> Iterator[str]:
    """The metrics that are 1 where an answer is taken for the reference, and 0 where it is not.

    Ties are left aside: there the answer is the first of several, and the grade is a part of 1. None where the
    evaluator takes a reference itself for another label, or for none: it then grades by something else.
    """
    if any(evaluator.label(one.item, one.item.reference) != _reference(one) for one in graded):
        return
    told = [one for one in graded if not one.grades.get(TIED)]
    rights = [evaluator.label(one.item, one.answer.text) == _reference(one) for one in told]
    for metric in evaluator.summaries():
        if told and all(one.grades.get(metric) == right for one, right in zip(told, rights, strict=True)):
            yield metric


def label_like(graded: Sequence[Graded], least: int = 2) -> bool:
    """Whether references are labels: `least` or more that are short, on one line, and come twice or more in the mean.

    One label alone has no table: nothing can be taken for another. That it solves its set, a reading says.
    """
    counts = Counter(_reference(one) for one in graded)
    short = all(0 < len(label) <= LONGEST and "\n" not in label for label in counts)
    return len(counts) >= least and short and len(graded) >= 2 * len(counts)


def classes(task: Labelled) -> dict[str, Any] | None:
    """Precision, recall and F1 of every label for both sides, and what was taken for what by the tuned model.

    The labels are those of the references, and what else of the items' choices was answered. None where they are the
    letters of choices that each item has of its own: what is behind a letter is another thing every time. A precision
    is None where the label was never answered, a recall where no reference is it. `matrix` has a row for each label, as
    in `labels`, of answers by label, with those that are none at the end; it is empty above `MOST_IN_A_MATRIX` labels,
    and `confused` has the commonest mistakes then: reference, answer (None for what is no label), count.
    """
    if _by_letter(task.tuned):
        return None
    base, of = (_taken(task.evaluator, side) for side in (task.base, task.tuned))
    labels = sorted({label for pair in (*base, *of) for label in pair if label is not None})
    small = len(labels) <= MOST_IN_A_MATRIX
    wrong = [(pair, count) for pair, count in of.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda one: (-one[1], one[0][0], one[0][1] or ""))
    return {
        "labels": [{"label": one, "base": _measured(one, base), "tuned": _measured(one, of)} for one in labels],
        "matrix": [[of[label, answer] for answer in (*labels, OTHER)] for label in labels] if small else [],
        "confused": [] if small else [[*pair, count] for pair, count in wrong[:PAIRS]],
    }


Taken = Mapping[tuple[str, str | None], int]


def _by_letter(graded: Sequence[Graded]) -> bool:
    return all(one.item.choices and one.item.choices == tuple(ascii_uppercase[: len(one.item.choices)])
               for one in graded)  # fmt: skip


def _taken(evaluator: Evaluator, graded: Sequence[Graded]) -> Counter[tuple[str, str | None]]:
    known = {_reference(one) for one in graded} | {choice.strip() for one in graded for choice in one.item.choices}
    answers = ((_reference(one), evaluator.label(one.item, one.answer.text)) for one in graded)
    return Counter((reference, answer if answer in known else OTHER) for reference, answer in answers)


def _measured(label: str, taken: Taken) -> dict[str, Any]:
    hits = taken.get((label, label), 0)
    rows = sum(count for (reference, _), count in taken.items() if reference == label)
    answers = sum(count for (_, answer), count in taken.items() if answer == label)
    return {
        "count": rows,
        "precision": hits / answers if answers else None,
        "recall": hits / rows if rows else None,
        "f1": 2 * hits / (rows + answers) if rows + answers else 0.0,
    }


def _reference(graded: Graded) -> str:
    return graded.item.reference.strip()
