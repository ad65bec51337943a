"""The number that an answer gives, and whether it is the one that was wanted.

Figures come with separators of thousands, signs of currencies, percent signs, brackets for losses and words for scales.
A figure and its scale are kept apart, as TAT-QA scores them (Zhu et al., TAT-QA: a question answering benchmark on a
hybrid of tabular and textual content in finance, 2021): `1.2` and `1.2 million` are alike in the one and differ in the
other.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import NamedTuple

SCALES = {"": 1.0, "percent": 0.01, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
WORDS = {
    "%": "percent", "percent": "percent", "per cent": "percent", "pct": "percent",
    "k": "thousand", "thousand": "thousand", "thousands": "thousand",
    "m": "million", "mn": "million", "mio": "million", "million": "million", "millions": "million",
    "b": "billion", "bn": "billion", "billion": "billion", "billions": "billion",
    "tn": "trillion", "trillion": "trillion", "trillions": "trillion",
}  # fmt: skip
LETTERS = "|".join(sorted(filter(str.isalpha, WORDS), key=len, reverse=True))  # the longest that fits
CURRENCY = r"(?:[$€£¥₹]|\b(?:usd|eur|gbp|chf|jpy)\b)"
FOUND = rf"""
    (?<![\w.,])                                       # not within a word or another number: `FY30`, `v1.2.3`
    (?P<open>\()? \s* (?P<sign>[-−–+]|\b(?:minus|negative)\s)? \s* {CURRENCY}? \s* (?P<late>[-−])? \s*
    (?P<digits>\d{{1,3}}(?:[,'’ \u00a0\u202f]\d{{3}})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?:e(?P<power>[-+]?\d{{1,3}})\b)?
    (?![\d]|[.,]\d)
    \s* (?:(?P<scale>%|per\ cent\b|{LETTERS})(?![\w]))?
    \s* (?P<close>\))? (?(close)\s*(?:(?P<beyond>%|per\ cent\b|{LETTERS})(?![\w]))?)
    """


@cache  # not at import: that takes longer than `validate` has, which grades nothing
def _pattern() -> re.Pattern[str]:
    return re.compile(FOUND, re.VERBOSE | re.IGNORECASE)


class Number(NamedTuple):
    """`1.2 million` is the figure 1.2 in the scale `million`; no scale is the empty text."""

    figure: float
    scale: str = ""

    @property
    def total(self) -> float:
        """The figure times its scale: 1,200,000; of 12 percent, 0.12."""
        return self.figure * SCALES[self.scale]


def read(text: str) -> Number | None:
    """The number that an answer gives; None where it gives none, or several without saying which it means.

    The first line with a number counts. Of a sum the result does: what stands after the last equals sign. Of several
    numbers beside each other none is chosen, for a reader could not choose either.

    `1,234.5`, `1 234.5` and `1'234.5` have separators; a comma before other than three digits makes no number that is
    read. `(12)` in an answer that is nothing else, or with a currency or separators inside the brackets, is -12, and so
    is `minus 12`; a scale may stand within the brackets or behind them.
    """
    for line in text.splitlines():
        found = {_number(match, line) for match in _pattern().finditer(line.rpartition("=")[2])}
        if not found and "=" in line:
            found = {_number(match, line) for match in _pattern().finditer(line)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _number(match: re.Match[str], line: str) -> Number:
    figure = float(re.sub(r"[,'’\s]", "", match["digits"]) + (f"e{match['power']}" if match["power"] else ""))
    negative = (match["sign"] or match["late"] or "+") != "+"
    bracketed = bool(match["open"] and match["close"])
    alone = match.group().strip() == line.strip(" .")
    if bracketed and (alone or re.search(rf"{CURRENCY}|,", match.group(), re.IGNORECASE)):  # as accounts write a loss
        negative = True
    scale = match["scale"] or (match["beyond"] if bracketed else None)
    return Number(-figure if negative else figure, WORDS[scale.lower()] if scale else "")


def same(
    said: Number | None, wanted: Number, *, tolerance: float = 0.0, relative: float = 0.0, strict: bool = False
) -> bool:
    """Whether a number is the wanted one, off by at most `tolerance`, or by the share `relative` of what is wanted.

    Numbers are compared with their scales. Where one of them names none, equal figures are enough: a question that
    asks for millions is answered by 1.2 as by 1.2 million. With `strict` they are not, and 12 is not 12 %. `tolerance`
    is in the wanted number's scale.
    """
    if said is None:
        return False
    scale = SCALES[wanted.scale]
    if _near(said.total / scale, wanted.figure, tolerance, relative):
        return True
    unsaid = not (said.scale and wanted.scale)
    return not strict and unsaid and _near(said.figure, wanted.figure, tolerance, relative)


def _near(said: float, wanted: float, tolerance: float, relative: float) -> bool:
    """Within the larger of the two bounds; 1e-9 of it is what floating point may do."""
    bound = max(tolerance, relative * abs(wanted))
    return math.isfinite(said) and abs(said - wanted) <= bound + 1e-9 * max(1e-12, abs(wanted), bound)
