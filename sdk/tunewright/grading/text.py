"""Answers in words beside reference texts, of which any one may be met.

Source: Rajpurkar et al., SQuAD: 100,000+ questions for machine comprehension of text, 2016, section 6.1, for what is
normalised away, exact match and token F1 as the best over the references.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache

PUNCTUATION = f"[{re.escape(string.punctuation)}]"
OUTSIDE_NUMBERS = (
    rf"(?<!\d)[{re.escape(string.punctuation.replace('-', ''))}]"  # after what is no digit
    rf"|(?<=\d)[{re.escape(string.punctuation.replace('-', ''))}](?!\d)"  # after a number
    r"|(?<=\w)-(?!\d)|(?<=[^\W\d])-|(?<!\w)-(?!\d)"  # a hyphen that is no sign and in no range
)
DASH = r"(?<=[^\S\n])-+(?=\s)"  # on the line of what it follows
ARTICLES = r"\b(a|an|the)\b"


@cache  # not at import: that takes longer than `validate` has, which grades nothing
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def normalise(text: str, *, numbers: bool = False) -> str:
    """Small letters, without ASCII punctuation, English articles and needless white space, as SQuAD has it.

    SQuAD takes points out of numbers too: to it `2.5 mg` and `25 mg` are one answer. With `numbers`, marks between two
    digits and a minus sign before one stay.
    """
    bare = _pattern(OUTSIDE_NUMBERS if numbers else PUNCTUATION).sub("", text.lower())
    return " ".join(_pattern(ARTICLES).sub(" ", bare).split())


def exact_match(answer: str, references: Sequence[str], *, numbers: bool = False) -> float:
    """1 where the answer and any reference are the same once normalised, else 0."""
    said = normalise(answer, numbers=numbers)
    return float(any(said == normalise(reference, numbers=numbers) for reference in references))


def contains(answer: str, references: Sequence[str]) -> float:
    """1 where the words of any reference stand in the answer, in a row and whole, once both are normalised; else 0.

    A reference of no words, as one of punctuation alone, is in no answer.
    """
    said = f" {normalise(answer, numbers=True)} "
    wanted = (normalise(reference, numbers=True) for reference in references)
    return float(any(words and f" {words} " in said for words in wanted))


def token_f1(answer: str, references: Sequence[str], *, numbers: bool = False) -> float:
    """Harmonic mean of the shares of words that answer and reference have in common, of the best reference; 0 to 1.

    A word counts as often as it stands in both. Where answer and reference are both empty once normalised it is 1.
    """
    return max((_f1(answer, reference, numbers) for reference in references), default=0.0)


def _f1(answer: str, reference: str, numbers: bool) -> float:
    said, wanted = (normalise(text, numbers=numbers).split() for text in (answer, reference))
    if not said or not wanted:
        return float(said == wanted)
    return 2 * (Counter(said) & Counter(wanted)).total() / (len(said) + len(wanted))


def chosen(answer: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that an answer gives, or None: strict about what is said, not about how it is written.

    Capitals, quotes, asterisks, a point at the end, and whether words are parted by spaces, hyphens or underscores do
    not count. The choice is the whole answer, or begins it and is followed by a mark or a new line: `B) the router`,
    `billing: the invoice is wrong`, `billing - the invoice is wrong`. A sentence that has it further on is no answer
    (`not billing`), and one that goes on with another choice makes none (`billing or network`, `positive, negative`).
    """
    # a hyphen between spaces parts words, as in `not - stated`; where no choice is found so, it is a mark
    found = _leading(_plain(answer), choices)
    return found or _leading(_plain(_pattern(DASH).sub("–", answer)), choices)


def _leading(said: str, choices: Sequence[str]) -> str | None:
    for choice in sorted(choices, key=len, reverse=True):  # `not_stated` before `not`
        rest = _after(said, _plain(choice))
        if rest is not None:
            others = (_after(rest, _plain(other)) for other in choices if other != choice)
            return None if any(other is not None for other in others) else choice
    return None


def _plain(text: str) -> str:
    """Small letters, words parted by one space, lines by a line feed."""
    lines = text.casefold().strip(" \t\r\n*`\"'“”‘’([").splitlines()
    return "\n".join(" ".join(re.sub(r"[_\s*`\"“”-]+", " ", line).split()) for line in lines)


def _after(text: str, choice: str) -> str | None:
    """What follows a choice that begins a text, without the marks between; None where it does not."""
    found = re.match(rf"{re.escape(choice)}(?=\s*$|\s*[^\w\s]|\s*\n)", text) if choice else None
    return re.sub(r"^[\W_]*(?:(?:or|and)\b[\W_]*)?", "", text[found.end() :]) if found else None
