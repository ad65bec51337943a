"""Norms and gated MLPs that keep less between forward and backward, and pass over their tokens fewer times.

Autograd keeps for each RMSNorm its input in fp32, its normalized input and their parts; for a gated MLP the gate, its
activation, the product and the other half. Here a norm keeps its input and one number a token, a gate its two inputs.
The rest is worked out again in the backward, in the same order of operations. A module is replaced only where it gives
the very numbers of its own forward on a few tokens; which modules these are no list says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunewright_trl.forwards import Forwards

TOKENS = 4
"""Tokens on which a module is tried."""
CLOSE, ROUGH = 1e-5, 1e-3
"""How far apart, in relative L2, its output may be: in fp32, and in 16 bits, where a last bit may fall otherwise."""
SLOPES = 1e-2
"""The same of gradients by Liger's kernels, which round at fewer places."""
SAID = 300
"""Characters of an error of theirs that are told."""


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

    They run by Liger's kernels where `not_liger` gives no reason against it and those give the same, also backwards.
    Nothing is replaced where a forward of the module's own was put on it before.
    """

    def __init__(self, model: Any, not_liger: str = "Liger's kernels are not asked for") -> None:
        self.not_liger = not_liger
        """Why Liger's kernels are not used, or not for every layer that is replaced."""
        self.by_liger = 0
        """Layers that run by them."""
        liger = {} if not_liger else self._liger()
        super().__init__(self._replaced(model, liger))

    def _liger(self) -> Mapping[Any, Any]:
        try:
            return _liger_forwards()
        except Exception as error:  # a package that cannot be imported is as good as none
            self.not_liger = f"`liger_kernel` cannot be imported: {_said(error)}"
            return {}

    def _replaced(self, model: Any, liger: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
        judged: dict[tuple[type, Any], Any] = {}
        for module in model.modules():
            forward = _forward_for(module)
            if forward is None or "forward" in vars(module):
                continue
            alike = (type(module), getattr(module, "act_fn", None).__class__)
            if alike not in judged:
                judged[alike] = self._judged(module, forward, liger.get(forward))
            if judged[alike] is not None:
                self.by_liger += judged[alike] is not forward
                yield module, judged[alike]

    def _judged(self, module: Any, own: Any, liger: Any) -> Any:
        """The forward that the module and those like it are given; none where both give other numbers."""
        if not _same(module, own):
            return None
        if liger is None:
            return own
        if why := _not_by_liger(module, liger):
            self.not_liger = "; ".join(filter(None, (self.not_liger, f"`{type(module).__name__}`: {why}")))
        return own if why else liger


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
    x = _drawn(module)
    own, other = module(x).float(), forward(module, x).float()
    return bool((own - other).norm() <= (CLOSE if x.dtype == torch.float32 else ROUGH) * own.norm())


def _drawn(module: Any) -> torch.Tensor:
    """What the module is tried on [1, T, H], in the type of its weights."""
    weight = next(module.parameters())
    width = module.weight.shape[-1] if hasattr(module, "weight") else module.gate_proj.in_features
    draw = torch.Generator().manual_seed(0)
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    return torch.randn(1, TOKENS, width, generator=draw).to(weight.device, dtype)


def _liger_forwards() -> Mapping[Any, Any]:
    """Forwards by Liger's kernels, by those of ours in whose place they stand.

    Hsu et al. 2024, https://arxiv.org/abs/2410.10989; signatures as in liger-kernel 0.8.5.
    """
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        # casts as Llama's norm does; not in place, which would write into a gradient that others may hold
        passed = (hidden_states, self.weight, self.variance_epsilon, 0.0, "llama", False)
        found: torch.Tensor = LigerRMSNormFunction.apply(*passed)
        return found

    def mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.down_proj(LigerSiLUMulFunction.apply(self.gate_proj(x), self.up_proj(x)))
        return found

    return {_norm: norm, _mlp: mlp}


def _not_by_liger(module: Any, forward: Any) -> str:
    """Why the module is not to run by Liger's kernels, forwards or backwards; nothing where they give the same."""
    try:
        if not _same(module, forward):
            return "Liger's kernels give other numbers"
        own, other = (_slope(module, one) for one in (type(module).forward, forward))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler, and a driver, raise errors of their own
        return _said(error)
    close = bool((own - other).norm() <= SLOPES * own.norm())
    return "" if close else "Liger's kernels give another gradient"


@torch.enable_grad()
def _slope(module: Any, forward: Any) -> torch.Tensor:
    """The gradient of a sum of what `forward` makes of an input: towards that, and what is trained of a norm."""
    x = _drawn(module).requires_grad_()
    found = forward(module, x).float()
    weights = torch.linspace(-1, 1, found.numel(), device=found.device).view_as(found)
    trained = [one for one in module.parameters(recurse=False) if one.requires_grad]
    slopes = torch.autograd.grad((found * weights).sum(), [x, *trained])
    return torch.cat([slope.float().flatten() for slope in slopes])


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:SAID]
