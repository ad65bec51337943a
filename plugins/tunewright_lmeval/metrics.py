"""How a document's result becomes grades, and how the grades of all documents become lm_eval's own figure again.

Most metrics are the mean over documents, and their grade is the document's value. Of the others a document has pieces,
a grade each: `f1.gold` and `f1.said`, `word_perplexity.nats` and `word_perplexity.of`. So pairing, intervals and
p-values are the core's, whatever the metric, and none of this needs lm_eval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunewright.errors import WorkFailed
from tunewright.parts.evaluator import Graded, Summary, mean_of

LOWER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"})
"""lm_eval's metrics that a better model makes smaller; of any other the spec says so."""
LARGEST: Mapping[str, float] = {"acc": 1.0, "acc_norm": 1.0, "exact_match": 1.0, "brier_score": 2.0}
"""What those of lm_eval's metrics can be at most that mean the same in every task; others differ, or have no end."""
MEANS = frozenset({"mean", "nanmean", "brier_score"})
PIECES: Mapping[str, tuple[str, ...]] = {
    "perplexity": ("nats",),
    "weighted_perplexity": ("nats", "of"),
    "bits_per_byte": ("nats", "of"),
    "f1": ("gold", "said"),
    "matthews_corrcoef": ("gold", "said"),
}
"""By lm_eval's name of an aggregation: what a document gives to it."""
USUAL: Mapping[str, str] = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "f1": "f1",
    "mcc": "matthews_corrcoef",
}
"""The aggregation of the metrics whose grades are pieces: a score is made where no task can be asked any more."""


def supported(metric: str, aggregation: str) -> bool:
    """Whether a document's result is one number of which the mean is taken, or pieces that are known here."""
    return aggregation in MEANS or (aggregation in PIECES and USUAL.get(metric) == aggregation)


def grades_of(name: str, aggregation: str, value: Any, where: str) -> dict[str, float]:
    """A document's grades in the metric of this name.

    Raises `WorkFailed` where its result is not made of finite numbers.
    """
    try:
        if aggregation == "brier_score":
            gold, chances = value
            found = {name: math.fsum((c - (place == gold)) ** 2 for place, c in enumerate(map(float, chances)))}
        elif aggregation in MEANS:
            found = {name: float(value)}
        else:
            pieces = value if isinstance(value, (tuple, list)) else (value,)
            named = zip(PIECES[aggregation], pieces, strict=True)
            found = {f"{name}.{piece}": float(one) for piece, one in named}
    except (TypeError, ValueError) as error:
        raise WorkFailed(f"{where}: `{name}` is {value!r:.80}, of which no score can be made") from error
    if not all(map(math.isfinite, found.values())):
        raise WorkFailed(f"{where}: `{name}` is {value!r:.80}, which is no finite number")
    if aggregation == "f1" and not set(found.values()) <= {0.0, 1.0}:
        raise WorkFailed(f"{where}: `{name}` is of two classes, 0 and 1, and the document has {value!r:.80}")
    return found


def summary_of(name: str, metric: str) -> Summary:
    """The score of all documents that have grades in it: their mean, or what their pieces are for.

    Raises ZeroDivisionError where none has, as `mean_of`.
    """
    mean, usual = mean_of(name), USUAL.get(metric, "")
    pieces = [f"{name}.{piece}" for piece in PIECES.get(usual, ())]

    def summary(graded: Sequence[Graded]) -> float:
        if not pieces or any(name in one.grades for one in graded):
            return mean(graded)
        having = [one.grades for one in graded if pieces[0] in one.grades]
        if not having:
            raise ZeroDivisionError(f"no item has a grade in `{name}`")
        return SCORES[usual](*([grades[piece] for grades in having] for piece in pieces))

    return summary


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf  # the core refuses a score that is no finite number


def _f1(gold: Sequence[float], said: Sequence[float]) -> float:
    """Of class 1: 2tp / (2tp + fp + fn), and 0 where there is none of it."""
    hits = sum(one == other == 1 for one, other in zip(gold, said, strict=True))
    both = gold.count(1) + said.count(1)
    return 2 * hits / both if both else 0.0


def _matthews(gold: Sequence[float], said: Sequence[float]) -> float:
    """Of any number of classes; 0 where either side has one alone.

    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.
    """
    labels, size = {*gold, *said}, len(gold)
    hits = sum(one == other for one, other in zip(gold, said, strict=True))
    true, given = ([side.count(label) for label in labels] for side in (gold, said))
    covered = hits * size - sum(map(int.__mul__, true, given))
    spread = math.sqrt(size**2 - sum(n**2 for n in true)) * math.sqrt(size**2 - sum(n**2 for n in given))
    return covered / spread if spread else 0.0


SCORES: Mapping[str, Callable[..., float]] = {
    "perplexity": lambda nats: _exp(-math.fsum(nats) / len(nats)),
    "weighted_perplexity": lambda nats, of: _exp(-math.fsum(nats) / math.fsum(of)),
    "bits_per_byte": lambda nats, of: -math.fsum(nats) / math.fsum(of) / math.log(2),
    "f1": _f1,
    "matthews_corrcoef": _matthews,
}
