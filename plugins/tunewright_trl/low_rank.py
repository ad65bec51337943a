"""LoRA's linear layer as one function: fewer kernels, less kept, the scaling folded in.

PEFT computes `base(x) + B(A(dropout(x))) * scaling` as a chain, of which autograd keeps `B(A(x))` and the sum's parts
for each layer. Here only `x`, which the layers of a block share, and `A(x)` of r numbers a token are kept.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn


class LowRank(torch.autograd.Function):
    """`x` [N, in], `weight` [out, in], `bias` [out] or None, `down` [r, in], `up` [out, r] → x Wᵀ + b + s · x Aᵀ Bᵀ.

    `weight` and `bias` are frozen. Where the adapter's type is another one than the base's, its product is worked out
    in its own and added in it, as PEFT does.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, down: torch.Tensor, up: torch.Tensor, scale: float
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        base = flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())
        inner = flat.to(down.dtype) @ down.t()
        found = base.addmm_(inner, up.t(), alpha=scale) if base.dtype == up.dtype else _added(base, inner, up, scale)
        ctx.save_for_backward(x, inner, weight, down, up)
        ctx.scale = scale
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inner, weight, down, up = ctx.saved_tensors
        slope = grads[0].reshape(-1, grads[0].shape[-1])
        flat, own = x.reshape(-1, x.shape[-1]), slope.to(up.dtype)
        to_inner = (own @ up).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = slope @ weight
            if to_x.dtype == down.dtype:
                to_x.addmm_(to_inner, down)
            else:
                to_x += (to_inner @ down).to(to_x.dtype)
            to_x = to_x.view(x.shape)
        return to_x, None, None, to_inner.t() @ flat.to(down.dtype), (own.t() @ inner).mul_(ctx.scale), None


def _added(base: torch.Tensor, inner: torch.Tensor, up: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.addmm(base.to(up.dtype), inner, up.t(), alpha=scale).to(base.dtype)


class LowRankLayers:
    """While it lasts, every plain LoRA layer of `model` runs as one function; others stay as they are."""

    def __init__(self, model: Any) -> None:
        self._layers = list(_plain(model))
        for layer in self._layers:
            layer.forward = types.MethodType(_forward, layer)

    def __len__(self) -> int:
        return len(self._layers)

    def stop(self) -> None:
        """Put PEFT's forward back."""
        for layer in self._layers:
            del layer.forward
        self._layers = []


def _plain(model: Any) -> Iterator[Any]:
    """LoRA layers of one adapter over a frozen linear layer, with nothing but the product of two matrices."""
    for module in model.modules():
        if type(module) is not LoraLinear or type(module.base_layer) is not nn.Linear:
            continue
        (name, *others) = module.active_adapters
        plain = (
            not others
            and name in module.lora_A
            and name not in module.lora_variant
            and isinstance(module.lora_dropout[name], nn.Identity)
            and module.lora_A[name].bias is module.lora_B[name].bias is None
            and not module.base_layer.weight.requires_grad
        )
        if plain:
            yield module


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    name = self.active_adapters[0]
    if args or kwargs or self.disable_adapters or self.merged:
        found: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return found
    base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
    return LowRank.apply(x, base.weight, base.bias, down, up, self.scaling[name])
