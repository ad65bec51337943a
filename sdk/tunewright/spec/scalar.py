"""What a plain word of YAML 1.2 means: text, a number, a boolean or null, and nothing else; no tag changes that."""

from __future__ import annotations

MAX_NUMBER = 100  # characters of a number

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INFINITE = frozenset((".inf", ".Inf", ".INF"))
_NOT_A_NUMBER = frozenset((".nan", ".NaN", ".NAN"))
_BASES = {
    "0b": (2, frozenset("01_")),
    "0o": (8, frozenset("01234567_")),
    "0x": (16, frozenset("0123456789abcdefABCDEF_")),
}
_DIGITS = frozenset("0123456789_")
_REAL = _DIGITS | frozenset(".eE+-")


def meaning(text: str, plain: bool) -> str | int | float | bool | None:
    """What a scalar means; `plain` is one without quotes.

    Raises `ValueError` with a sentence where it stands for nothing that can be used.
    """
    if "\0" in text or not (text.isascii() or _is_whole(text)):
        raise ValueError("an escape stands for half a character or for NUL")
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] in "-+.0123456789":
        return _number(text)
    return text


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _number(text: str) -> int | float | str:
    sign, body = (-1 if text[0] == "-" else 1), text[1:] if text[0] in "+-" else text
    if body in _INFINITE:
        return sign * float("inf")
    if text in _NOT_A_NUMBER:
        return float("nan")
    base, digits = _BASES.get(body[:2], (10, _DIGITS))
    written = body[2:] if base != 10 else body
    if written and digits.issuperset(written) and written[0] != "_":
        return sign * int(_bounded(written.replace("_", "")), base)
    if body[:1] in "0123456789." and _REAL.issuperset(body):
        try:
            real = sign * float(body.replace("_", ""))
        except ValueError:  # as in 2026-01-01 or 1.2.3
            return text
        _bounded(body)
        return real
    return text


def _bounded(number: str) -> str:
    if len(number) > MAX_NUMBER:
        raise ValueError(f"a number of {len(number):,} characters")
    return number
