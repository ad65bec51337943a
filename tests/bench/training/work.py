"""Whether two sides did the same work: else one's speed says nothing of the other's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}
"""Relative, by the type of the weights: of bf16, what its own rounding does to a gradient of the padded batch."""


def unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any], dtype: str) -> list[str]:
    """What differs between two rounds, in words; nothing where both did the same.

    Compared is what both tell: tokens read and tokens that bore a loss, sequences that a reference was asked for, loss
    and gradient norm of one step on the same rows with the same adapter, answers token by token.
    """
    found = [
        f"{name}: {ours[name]} and {theirs[name]}"
        for name in ("rows", "tokens", "supervised", "referenced")
        if name in ours and name in theirs and ours[name] != theirs[name]
    ]
    if "check" in ours and "check" in theirs:
        for name, one in ours["check"].items():
            other = theirs["check"][name]
            if not abs(one - other) <= TOLERANCE[dtype] * max(abs(one), abs(other)):
                found.append(f"{name} of the first step: {one:.6g} and {other:.6g}")
    if "answers" in ours and "answers" in theirs:
        others = sum(a != b for a, b in zip(ours["answers"], theirs["answers"], strict=True))
        if others and dtype == "fp32":  # in bf16 another batch rounds otherwise
            found.append(f"{others} of {len(ours['answers'])} answers")
    if ours.get("reached", True) != theirs.get("reached", True):
        found.append("one side never got there")
    return found
