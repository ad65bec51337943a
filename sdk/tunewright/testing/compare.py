"""Where two observations differ, in words."""

from __future__ import annotations

from typing import Any


def difference(first: Any, second: Any, at: str = "") -> str:
    """The first place at which two values differ, or nothing. NaN equals itself."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in [*first, *(name for name in second if name not in first)]:
            if name not in first or name not in second:
                return f"{at or 'what came'} has `{name}` only once"
            if found := difference(first[name], second[name], f"{at}.{name}".lstrip(".")):
                return found
        return ""
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and type(first) is type(second):
        if len(first) != len(second):
            return f"{at or 'what came'} has {len(first)} entries, then {len(second)}"
        pairs = enumerate(zip(first, second, strict=True))
        return next((found for n, (a, b) in pairs if (found := difference(a, b, f"{at}[{n}]"))), "")
    if first == second or (first != first and second != second):
        return ""
    return f"{at or 'what came'} is {_short(first)}, then {_short(second)}"


def alike(first: Any, second: Any, tolerance: float = 0.02) -> bool:
    """Whether two outputs are the same but for rounding: lists of numbers by their distance, all else exactly."""
    if not (isinstance(first, list) and first and all(isinstance(value, float) for value in first)):
        return not difference(first, second)
    if not isinstance(second, list) or len(first) != len(second):
        return False
    size = sum(value * value for value in first) ** 0.5
    apart = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5
    return bool(apart <= tolerance * size)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
