"""Whether a model may be asked in another way than by its own forward: told by trying it on a few tokens, not by a list
of models."""

from __future__ import annotations

from collections.abc import Callable

import torch

EXACT = {torch.float32: 1e-3, torch.float64: 1e-3}
"""How far numbers may be apart, in relative L2, by type: a mask that leaks, or a position that is wrong, is a hundred
times as far. Types of 16 bits round more."""
ROUGH = 5e-2
"""The same where types are not known: bf16 rounds to 0.01."""
SLOPES = 0.1
"""The same of gradients through all layers in 16 bits, which round in each of them, forwards and backwards."""
REFUSALS = (TypeError, ValueError, AttributeError, RuntimeError, LookupError)
"""What code of a model raises that takes no further argument, or asks of ours what it has not."""


def why_not(
    another: Callable[[], torch.Tensor],
    plain: Callable[[], torch.Tensor],
    allowed: float | None = None,
    refusals: tuple[type[Exception], ...] = REFUSALS,
) -> str:
    """Why another way to ask a model is not to be taken; nothing where it gives what the plain one gives.

    Both give the same numbers in one shape; `allowed` is how far they may be apart, by their type where it is left out.
    An error among the `refusals` is a reason as well.
    """
    with torch.no_grad():
        try:
            found = another()
        except torch.OutOfMemoryError:
            raise
        except refusals as error:
            return str(error) or type(error).__name__
        whole = plain()
    distance = apart(found, whole)
    if distance <= (EXACT.get(whole.dtype, ROUGH) if allowed is None else allowed):
        return ""
    return f"the model answers otherwise over a tree: {distance:.1g} apart, in relative L2"


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Their distance in relative L2."""
    return float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-12))
