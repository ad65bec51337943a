"""What a text says of its own: words without case, width and punctuation, and without what its whole set has in common.

A prompt is often an instruction of hundreds of words around one message. Two such prompts share most of their words
whatever the messages are, so that only the messages can tell whether one was seen before.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tunewright.parts.prompt_format import Text, texts

LEAST, SHARE = 5, 0.05
"""So many prompts of a set, and such a share of it, begin or end alike before that counts as the set's own words."""
FEW, MOST = 8, 0.5
"""Fewer words than this are what people say anyway ("how do I"), unless such a share of the set has them."""
FAR = 2_000
"""Words of a beginning or an end that are looked at: no instruction is longer, and a row may be a book."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and Han characters: no spaces part their words, so each stands for one."""
_SILENT = re.compile(r"['’‘`´]|(?<!\d)[.,:]|[.,:](?!\d)|[;!?\"“”„«»‹›¿¡、。・]")
_UNSPACED_SIGN = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
Words = Sequence[str]


def words(text: str) -> list[str]:
    """Its words in Unicode's NFKC and without case; of scripts without spaces, its characters.

    Marks that part sentences or quote are left out, but for a point, comma or colon between digits. Signs that can
    change what is asked stay, such as those of arithmetic, brackets and currencies: 3 + 4 is not 3 - 4.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return list(map(sys.intern, _WORD.findall(_SILENT.sub(_parted, folded))))  # a word of a million rows is held once


def words_of(text: Text) -> list[str]:
    """The words of a prompt or an answer: of a conversation, those of all its messages."""
    return words("\n".join(texts(text)))


def mostly_unspaced(text: str) -> bool:
    """Whether most of its signs are of scripts without spaces."""
    return not text.isascii() and 2 * len(_UNSPACED_SIGN.findall(text)) > len(text)


def _parted(mark: re.Match[str]) -> str:
    return "" if mark[0] in "'’‘`´" else " "  # don't is one word however it is written


class Common:
    """Beginnings and ends that many texts of a set have in common; `own` is what is left of a text without them.

    A beginning counts where at least `LEAST` different texts and `SHARE` of the set have it and go on with `LEAST`
    different words. So a few rows that are copies of one another are no set with an instruction. Fewer than `FEW`
    words, by themselves or after a beginning that counts, count only where `MOST` of the texts have them.

    What one set has in common is left out of the texts of all: an evaluation of three items says little of itself, and
    asks as the training rows do.
    """

    def __init__(self, sets: Iterable[Iterable[Words]]) -> None:
        self._starts: dict[str, Any] = {}
        self._ends: dict[str, Any] = {}
        every = [list(one) for one in sets]
        for some in [*every, [text for one in every for text in one]]:
            _note({tuple(text[:FAR]) for text in some}, self._starts)
            _note({tuple(text[: -FAR - 1 : -1]) for text in some}, self._ends)

    def own(self, text: Words) -> list[str]:
        """The words between the longest known beginning and the longest known end; all, where that leaves none."""
        start = _longest(text, self._starts)
        end = _longest(text[::-1], self._ends)
        return list(text[start : len(text) - end]) or list(text)


_HERE = ""
"""In a trie of words, which are never empty: a common beginning ends here."""


def _note(texts: Iterable[tuple[str, ...]], trie: dict[str, Any]) -> None:
    """Every beginning that enough of the texts share, into the trie."""
    ordered = sorted(texts)
    least = max(LEAST, SHARE * len(ordered))
    todo = [(ordered, 0, 0, len(ordered))]  # beside the texts: words that are alike, noted words, texts that have these
    while todo:
        some, depth, noted, of = todo.pop()
        if len(some) < least:
            continue
        depth = _alike(some[0], some[-1], depth)  # of sorted texts, the outermost differ first
        ways = _by_word(some, depth)
        enough = depth - noted >= FEW or len(some) >= MOST * of
        if depth > noted and enough and len(ways) >= LEAST:
            place = trie
            for word in some[0][:depth]:
                place = place.setdefault(word, {})
            place[_HERE] = True
            noted, of = depth, len(some)
        todo += [(found, depth + 1, noted, of) for found in ways if len(found[0]) > depth]


def _by_word(texts: Sequence[tuple[str, ...]], place: int) -> list[list[tuple[str, ...]]]:
    """Sorted texts, parted by the word at a place; those that end there are a part too."""
    return [list(found) for _, found in groupby(texts, lambda text: text[place : place + 1])]


def _alike(one: tuple[str, ...], other: tuple[str, ...], start: int) -> int:
    """How many words both begin with, `start` of which are known to be equal."""
    for place in range(start, min(len(one), len(other))):
        if one[place] != other[place]:
            return place
    return min(len(one), len(other))


def _longest(text: Words, trie: dict[str, Any]) -> int:
    """Words of the longest noted beginning."""
    found = 0
    for place, word in enumerate(text, 1):
        if word not in trie:
            break
        trie = trie[word]
        if _HERE in trie:
            found = place
    return found
