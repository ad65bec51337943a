"""Whether a model is right as often as it is sure.

Source: Guo et al., On calibration of modern neural networks, 2017, for the expected calibration error and its bins of
equal width; Nixon et al., Measuring calibration in deep learning, 2019, for bins of equal mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bins = Literal["width", "mass"]


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence is above `low` and at most `high`: how many, how sure, how often right. A point of a
    reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[float], count: int = 10, by: Bins = "width") -> list[Bin]:
    """The bins that hold any answer, from unsure to sure.

    `confidences` are from 0 to 1, `right` is how right each answer is, 0 or 1. Bins of equal width part the range from
    0 to 1; the first has 0 in it. Bins of equal mass hold as equally many answers as can be, and their bounds are the
    confidences of their first and last. Raises `ValueError` where lengths differ or a confidence is none.
    """
    if len(confidences) != len(right):
        raise ValueError(f"{len(confidences)} confidences for {len(right)} answers")
    wrong = [value for value in confidences if not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"a confidence is from 0 to 1, not {wrong[0]}")
    if count < 1:
        raise ValueError("there is at least one bin")
    pairs = sorted(zip(confidences, right, strict=True))
    return list(_by_width(pairs, count) if by == "width" else _by_mass(pairs, count))


def ece(confidences: Sequence[float], right: Sequence[float], count: int = 10, by: Bins = "width") -> float:
    """The expected calibration error: how far accuracy is from confidence, in the mean over answers; 0 to 1.

    It depends on the bins: compare figures of one `count` and one kind. Raises `ValueError` where there is no answer.
    """
    bins = reliability(confidences, right, count, by)
    if not bins:
        raise ValueError("there is no answer to tell calibration by")
    return math.fsum(one.n * abs(one.accuracy - one.confidence) for one in bins) / len(confidences)


def gaps(confidences: Sequence[float], right: Sequence[float], count: int = 10) -> NDArray[np.float64]:
    """What each answer adds to the gap of each bin of equal width, accuracy less confidence: answers × bins.

    The sums' absolute values, over the answers, are `ece`. Raises ValueError as `reliability` does.
    """
    import numpy as np

    reliability(confidences, right, count)
    found = np.zeros((len(confidences), count))
    for row, (confidence, one) in enumerate(zip(confidences, right, strict=True)):
        found[row, _place(confidence, count)] = one - confidence
    return found


Pairs = Sequence[tuple[float, float]]


def _by_width(pairs: Pairs, count: int) -> list[Bin]:
    held: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for confidence, right in pairs:
        held[_place(confidence, count)].append((confidence, right))
    return [_bin(some, place / count, (place + 1) / count) for place, some in enumerate(held) if some]


def _place(confidence: float, count: int) -> int:
    return max(0, math.ceil(confidence * count) - 1)


def _by_mass(pairs: Pairs, count: int) -> list[Bin]:
    bounds = [place * len(pairs) // count for place in range(count + 1)]
    parts = (pairs[start:end] for start, end in pairwise(bounds))
    return [_bin(some, some[0][0], some[-1][0]) for some in parts if some]


def _bin(pairs: Pairs, low: float, high: float) -> Bin:
    sure, right = (math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return Bin(low, high, len(pairs), sure, right)
