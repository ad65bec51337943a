"""An interval of one share, such as the exact matches of one model."""

from __future__ import annotations


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of the share `successes / n`; (0, 1) where nothing was seen.

    Of grades from 0 to 1 their sum may stand for successes: it is then wider than it must be. Raises ValueError unless
    0 <= successes <= n. Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    JASA 22 (1927) 209-212.
    """
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return (0.0, 1.0)
    low, high = proportion_confint(successes, n, alpha=0.05, method="wilson")
    return (float(low), float(high))
