"""Right and wrong answers of two models to the same questions: all that counts is which answers changed.

`won` counts the items that only the second model has right, `lost` those that only the first has, `n` all of them.
"""

from __future__ import annotations

import math

Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


def exact(won: int, lost: int) -> float:
    """McNemar's test, exact and two-sided: if nothing changed, the changes are tosses of a fair coin.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12 (1947) 153-157.
    """
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def mid(won: int, lost: int) -> float:
    """Its mid-p: what was observed counts half. Nearer to 5 % than the exact test, which falls short of it.

    Source: Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs data: mid-p and asymptotic are
    better than exact conditional, BMC Medical Research Methodology 13 (2013) 91.
    """
    from scipy.stats import binom

    fewer, of = min(won, lost), won + lost
    return min(1.0, float(2 * binom.cdf(fewer, of, 0.5) - binom.pmf(fewer, of, 0.5)))  # rounding goes beyond


def interval(won: float, lost: float, n: float) -> tuple[float, float]:
    """95 % score interval of the difference of the two shares, second minus first.

    It has a width where nothing changed, which a bootstrap has not: z²/(n + z²) to either side.
    Source: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design, Statistics in Medicine 17 (1998) 891-908; recommended by Fagerland, Lydersen and Laake, Recommended tests
    and confidence intervals for paired binomial proportions, Statistics in Medicine 33 (2014) 2850-2875.
    Parts of items may be won: of grades from 0 to 1 it is then wider than it must be, for a grade that varies within
    these bounds varies most where it is 0 or 1. Raises ValueError for counts that cannot be.
    """
    if min(won, lost) < 0 or won + lost > n + 1e-9 or n <= 0:
        raise ValueError(f"{won} won and {lost} lost of {n}")
    found = (won - lost) / n
    return (_crossing(won, lost, n, Z, -1.0, found), _crossing(won, lost, n, -Z, found, 1.0))


def _crossing(won: float, lost: float, n: float, level: float, low: float, high: float) -> float:
    """Where Tango's statistic, which falls as the assumed difference grows, is `level`; else the end of the range."""
    from scipy.optimize import bisect

    def above(difference: float) -> float:
        return _statistic(difference, won, lost, n) - level

    end = low if level > 0 else high
    if low == high or (above(low) > 0) == (above(high) > 0):
        return end
    return float(bisect(above, low, high, xtol=1e-10))


def _statistic(difference: float, won: float, lost: float, n: float) -> float:
    """How many standard errors the data lie above an assumed difference, the error being that under the assumption."""
    off = won - lost - n * difference
    # Under the assumption, the likeliest share of items that are lost solves a quadratic (Tango, equation 9).
    b, c = (2 * n - won + lost) * difference - won - lost, -lost * difference * (1 - difference)
    losing = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * losing + difference * (1 - difference))
    if variance < 1e-12:
        return 0.0 if abs(off) < 1e-9 else math.copysign(1e9, off)
    return off / math.sqrt(variance)
