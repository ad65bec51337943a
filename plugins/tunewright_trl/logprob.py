"""Log-probabilities under an LM head that is not trained, whose gradient is worked out while the logits are at hand.

A loss over log-probabilities multiplies each position's gradient by one number. So the gradient towards the hidden
state is a vector that the forward can keep, and the backward needs no product with the head's weights. (TRL's computes
the logits a second time and casts the weights to fp32: on the CPU in bf16 its two passes take five times as long.)
"""

from __future__ import annotations

from typing import Any

import torch

LOGITS_AT_ONCE = 1 << 24
"""Logits held at once: 64 MiB in fp32, whatever the vocabulary."""


class FrozenHeadLogProb(torch.autograd.Function):
    """`hidden` [N, H], `weight` [V, H], `targets` [N] → log-probability of each target, entropy, mean logit, whether it
    is the most likely token; all [N], the first two in fp32 nats.

    Only the log-probabilities carry a gradient, and only towards `hidden`.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[Any, ...]:
        """Score in chunks of positions, never holding more than `LOGITS_AT_ONCE` logits."""
        ctx.set_materialize_grads(False)
        size = max(1, LOGITS_AT_ONCE // weight.shape[0])
        wanted = ctx.needs_input_grad[0]
        chunks = [
            _chunk(some, weight, their, wanted)
            for some, their in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        log_probs, entropy, mean, is_top1, slopes = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(entropy, mean, is_top1)
        return log_probs, entropy, mean, is_top1

    @staticmethod
    def backward(ctx: Any, grad_log_probs: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, None, None]:
        """Each position's slope times the gradient of its log-probability."""
        if grad_log_probs is None:
            return None, None, None
        (slopes,) = ctx.saved_tensors
        return (grad_log_probs[:, None] * slopes).to(slopes.dtype), None, None


def _chunk(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, wanted: bool) -> tuple[Any, ...]:
    logits = (hidden @ weight.t()).float()
    log_z = logits.logsumexp(-1, keepdim=True)
    chosen = targets[:, None]
    log_probs = (logits.gather(-1, chosen) - log_z)[:, 0]
    mean, is_top1 = logits.mean(-1), logits.argmax(-1) == targets
    probs = (logits - log_z).exp_()
    entropy = log_z[:, 0] - torch.linalg.vecdot(probs, logits)
    return log_probs, entropy, mean, is_top1, _slope(probs, chosen, weight) if wanted else hidden[:, :0]


def _slope(probs: torch.Tensor, chosen: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """d log p(target) / d hidden = (onehot - p) @ W. Overwrites `probs`.

    The target's own share is taken off in fp32, before rounding to the head's dtype: where the model is already sure,
    almost nothing is left of it, and in bf16 that remainder would be lost.
    """
    return probs.neg_().scatter_add_(-1, chosen, torch.ones_like(chosen, dtype=probs.dtype)).to(weight.dtype) @ weight
