"""Pairs made of classified messages: the right label, and the one that is easiest to confuse it with."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict


def words(text):
    return Counter(re.findall(r"[a-z']+", text.lower()))


def centroids(rows):
    """By label, the words of its messages, each message and then each label of length one."""
    found = defaultdict(Counter)
    for text, label in rows:
        counts = words(text)
        for word, count in counts.items():
            found[label][word] += count / _length(counts)
    return {label: {w: c / _length(counts) for w, c in counts.items()} for label, counts in found.items()}


def _length(counts):
    return math.sqrt(sum(count**2 for count in counts.values()))


def confusable(text, label, centres):
    """Of the other labels, the one whose centroid is nearest."""
    counts = words(text)
    others = sorted(set(centres) - {label})
    return max(others, key=lambda other: sum(count * centres[other].get(w, 0) for w, count in counts.items()))


def pairs_of(rows, centres):
    """A pair a row of (text, label), in their order."""
    return [{"text": text, "chosen": label, "rejected": confusable(text, label, centres)} for text, label in rows]


def both_ways(pairs, count, draw):
    """`count` of the pairs, as many with A over B as with B over A for all labels A and B.

    A label that is rejected more often than chosen would be learnt to be wrong, whatever the message says.
    """
    found = defaultdict(list)
    for pair in pairs:
        found[pair["chosen"], pair["rejected"]].append(pair)
    couples = [
        couple for (one, other), some in sorted(found.items()) if one < other
        for couple in zip(some, found.get((other, one), ()), strict=False)
    ]  # fmt: skip
    drawn = [pair for couple in draw.sample(couples, count // 2) for pair in couple]
    return draw.sample(drawn, len(drawn))


def write_pairs(pairs, path):
    """One JSON object a line."""
    path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    return path
