"""Norms and gated MLPs that keep less between forward and backward, and pass over their tokens fewer times.

Autograd keeps for each RMSNorm its input in fp32, its normalized input and their parts; for a gated MLP the gate, its
activation, the product and the other half. Here a norm keeps its input and one number a token, a gate its two inputs.
The rest is worked out again in the backward, in the same order of operations. A module is replaced only where it gives
the very numbers of its own forward on a few tokens; which modules these are no list says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunewright_trl.forwards import Forwards

TOKENS = 4
"""Tokens on which a module is tried."""
CLOSE, ROUGH = 1e-5, 1e-3
"""How far apart, in relative L2, its output may be: in fp32, and in 16 bits, where a last bit may fall otherwise."""


class RmsNorm(torch.autograd.Function):
    """`x` [N, H] over its root mean square, times `weight` [H]; worked out in fp32, as transformers' norms do.

    Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(epsilon).rsqrt_()[..., None]
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normal = x.float() * scale
        slope = grads[0].float()
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (slope * normal).flatten(0, -2).sum(0).to(weight.dtype)
        slope = slope * weight.float()
        along = torch.linalg.vecdot(slope, normal).div_(x.shape[-1])[..., None]
        return slope.sub_(normal.mul_(along)).mul_(scale).to(x.dtype), to_weight, None


class SiluGate(torch.autograd.Function):
    """`gate` and `up` [N, I] → silu(gate) · up. Shazeer 2020, https://arxiv.org/abs/2002.05202"""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        (slope,) = grads
        to_gate: torch.Tensor = torch.ops.aten.silu_backward(slope * up, gate)
        return to_gate, functional.silu(gate).mul_(slope)


class LeanLayers(Forwards):
    """While it lasts, norms and gated MLPs of `model` keep less; what would give other numbers is left as it is.

    Nothing is replaced where a forward of the module's own was put on it before.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(_replaced(model))


def _replaced(model: Any) -> Iterator[tuple[Any, Any]]:
    judged: dict[tuple[type, Any], bool] = {}
    for module in model.modules():
        forward = _forward_for(module)
        if forward is None or "forward" in vars(module):
            continue
        alike = (type(module), getattr(module, "act_fn", None).__class__)
        if alike not in judged:
            judged[alike] = _same(module, forward)
        if judged[alike]:
            yield module, forward


def _forward_for(module: Any) -> Any:
    if type(module).__name__.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), torch.Tensor):
        return _norm if hasattr(module, "variance_epsilon") else None
    if all(isinstance(getattr(module, name, None), nn.Module) for name in ("gate_proj", "up_proj", "down_proj")):
        return _mlp if hasattr(module, "act_fn") else None
    return None


def _norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)
    return found


def _mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = self.down_proj(SiluGate.apply(self.gate_proj(x), self.up_proj(x)))
    return found


@torch.no_grad()
def _same(module: Any, forward: Any) -> bool:
    """Whether `forward` does what the module's own does, on tokens by a seed of their own."""
    weight = next(module.parameters())
    width = module.weight.shape[-1] if hasattr(module, "weight") else module.gate_proj.in_features
    draw = torch.Generator().manual_seed(0)
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    x = torch.randn(1, TOKENS, width, generator=draw).to(weight.device, dtype)
    own, other = module(x).float(), forward(module, x).float()
    return bool((own - other).norm() <= (CLOSE if dtype == torch.float32 else ROUGH) * own.norm())
