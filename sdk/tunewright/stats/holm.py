"""Several scores of one run: the more one looks at, the likelier one of them is good by chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tunewright.parts.gate import Score


def is_family(ps: Iterable[float | None]) -> bool:
    """Whether the scores with these `p_adjusted` are several that are compared, so that it differs from the p alone."""
    return sum(p is not None for p in ps) > 1


def adjusted(family: Mapping[str, Score]) -> dict[str, Score]:
    """The scores with `p_adjusted`: reading those as one reads a single p, the chance that any of them is wrong stays.

    A family is what one question is asked of: all scores of a run against the base are one, those against each baseline
    another; what an exported form has lost is a check of each form and no claim, and belongs to none. Nor does a score
    that nothing is compared by (`Score.compare_by`): its `p_adjusted` stays None.
    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6 (1979) 65-70.
    """
    from statsmodels.stats.multitest import multipletests

    asked = [name for name, score in family.items() if score.compare_by is None]
    ps = multipletests([family[name].p_value for name in asked], method="holm")[1] if asked else []
    found = {name: float(p) for name, p in zip(asked, ps, strict=True)}
    return {name: replace(score, p_adjusted=found.get(name)) for name, score in family.items()}
