"""What a model chose among given answers, by how likely it finds each.

place, grades = chosen([-1.2, -0.3, -4.0], right=0)  # log-likelihoods in nats
place, grades["accuracy"]  # 1, 0.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunewright.parts.evaluator import TIED

SAME = 1e-9
"""Nats: what the order of a floating-point sum may change. Choices that are nearer are equally likely."""


def chosen(scores: Sequence[float], right: int) -> tuple[int, dict[str, float]]:
    """The place of the likeliest, of equal ones the first; and the grades, `right` being the place of the reference.

    `accuracy` is 1 where the likeliest is right, 1/k where it is one of k equally likely ones; `probability` is that of
    the reference and `confidence` that of the likeliest, by the softmax over the scores; `brier` is the squared
    distance of these probabilities from the truth; `tied` is 1 where several are equally likely.
    """
    best = max(scores)
    top = [place for place, score in enumerate(scores) if best - score <= SAME]
    chances = [math.exp(score - best) for score in scores]
    chances = [chance / math.fsum(chances) for chance in chances]
    return top[0], {
        "accuracy": (right in top) / len(top),
        "probability": chances[right],
        "brier": math.fsum((chance - (place == right)) ** 2 for place, chance in enumerate(chances)),
        "confidence": max(chances),
        TIED: float(len(top) > 1),
    }
