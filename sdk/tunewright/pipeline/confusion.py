"""Which label is taken for which: for evaluations whose references are labels, as those of a classifier are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.parts.evaluator import Graded

MOST_IN_A_MATRIX = 20
"""Labels; of more, the pairs that are most often confused are told instead."""
PAIRS = 20
LONGEST = 60  # characters: a reference that is longer is a text and no label
OTHER = None
"""What stands for an answer that is no label of the references."""


def label_like(graded: Sequence[Graded]) -> bool:
    """Whether references are labels: two or more that are short, on one line, and come twice or more in the mean."""
    counts = Counter(_reference(one) for one in graded)
    short = all(0 < len(label) <= LONGEST and "\n" not in label for label in counts)
    return len(counts) >= 2 and short and len(graded) >= 2 * len(counts)


def classes(base: Sequence[Graded], tuned: Sequence[Graded]) -> dict[str, Any] | None:
    """Precision, recall and F1 of every label for both sides, and what was taken for what by the tuned model.

    An answer is a label where it is that label's text, surrounding white space apart, as for a macro F1. None where the
    references are no labels. A precision is None where the label was never answered. `matrix` has a row for each label,
    as in `labels`, of answers by label, with those that are none at the end; it is empty above `MOST_IN_A_MATRIX`
    labels, and `confused` has the commonest mistakes then: reference, answer (None for what is no label), count.
    """
    if not label_like(tuned):
        return None
    labels = sorted({_reference(one) for one in tuned})
    taken = {name: _taken(side, labels) for name, side in (("base", base), ("tuned", tuned))}
    of = taken["tuned"]
    small = len(labels) <= MOST_IN_A_MATRIX
    wrong = [(pair, count) for pair, count in of.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda one: (-one[1], one[0][0], one[0][1] or ""))
    return {
        "labels": [
            {"label": label, **{name: _measured(label, counts) for name, counts in taken.items()}} for label in labels
        ],
        "matrix": [[of[label, answer] for answer in (*labels, OTHER)] for label in labels] if small else [],
        "confused": [] if small else [[*pair, count] for pair, count in wrong[:PAIRS]],
    }


Taken = Mapping[tuple[str, str | None], int]


def _taken(graded: Sequence[Graded], labels: Sequence[str]) -> Counter[tuple[str, str | None]]:
    known = set(labels)
    answers = ((_reference(one), one.answer.text.strip()) for one in graded)
    return Counter((reference, answer if answer in known else OTHER) for reference, answer in answers)


def _measured(label: str, taken: Taken) -> dict[str, Any]:
    hits = taken.get((label, label), 0)
    rows = sum(count for (reference, _), count in taken.items() if reference == label)
    answers = sum(count for (_, answer), count in taken.items() if answer == label)
    return {
        "count": rows,
        "precision": hits / answers if answers else None,
        "recall": hits / rows if rows else 0.0,
        "f1": 2 * hits / (rows + answers) if rows + answers else 0.0,
    }


def _reference(graded: Graded) -> str:
    return graded.item.reference.strip()
