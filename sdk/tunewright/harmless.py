"""Text of models, rows and files as it may be shown: nothing in it acts on a terminal or on the reading's direction."""

from __future__ import annotations

import re

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters but line ends and tabs, halves of a surrogate pair, and signs that turn the text after them."""


def harmless(text: str) -> str:
    """The text with U+FFFD in place of each sign that acts on a terminal, a parser or the direction of reading."""
    return _ACTS.sub("\ufffd", text)
