"""The smallest effect that so many questions can show: known before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.parts.gate import CHANCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST_WINS = 6
"""So many items won and none lost: 2 / 2^6 = 0.031; of five the p-value is 0.063, which is no finding."""
DISCORDANCE, POWER = 0.2, 0.8
STEP = 0.001


@dataclass(frozen=True)
class Visible:
    """Of right or wrong answers, both figures as shares of 1: `floor` is the gain under which no outcome has p at most
    0.05, `likely` the gain that four runs of five find where one item in five changes. None where the set cannot show
    any. Of partial credit neither holds: small gains of many items are told from chance below `floor`."""

    items: int
    clusters: int
    floor: float | None
    likely: float | None


def visible(items: int, clusters: int) -> Visible:
    """What right or wrong answers to `items` questions in `clusters` can show by McNemar's exact test at 5 %.

    Where items share a group, groups are counted in place of items: as if the answers in each stood and fell together.
    """
    floor = FEWEST_WINS / clusters if clusters >= FEWEST_WINS else None
    return Visible(items, clusters, floor, None if floor is None else _likely(clusters, floor))


def power(n: int, gain: float, discordance: float = DISCORDANCE) -> float:
    """How often the exact test finds a true gain, at p at most 0.05 and the right way round.

    `discordance` is the share of items that change, either way; never less than `gain`. Exact, by summing over how many
    change: Duffy, Asymptotic and exact power for the McNemar test and its analogue with R controls per case, Biometrics
    40 (1984) 1005-1015.
    """
    import numpy as np
    from scipy.stats import binom

    changing = max(discordance, gain)
    if changing == 0:
        return 0.0
    changed = np.arange(n + 1)
    found = binom.sf(_needed(changed) - 1, changed, (changing + gain) / (2 * changing))
    return float((binom.pmf(changed, n, changing) * found).sum())


def _needed(changed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Wins among so many changes from which on the two-sided p-value is at most 0.05; more than there are for few."""
    from scipy.stats import binom

    needed: NDArray[np.float64] = binom.isf(CHANCE / 2, changed, 0.5) + 1
    return needed


def _likely(n: int, floor: float) -> float | None:
    """Halving, for power grows with the gain; to a tenth of a point, upwards."""
    low, high = 0, round(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(n, middle * STEP) >= POWER else (middle, high)
    return max(floor, round(high * STEP, 3))
