"""LoRA's linear layer as one function: fewer kernels, less kept, the scaling folded in.

PEFT computes `base(x) + B(A(dropout(x))) * scaling` as a chain, of which autograd keeps `B(A(x))` and the sum's parts
for each layer. Here only `x`, which the layers of a block share, and `A(x)` of r numbers a token are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.import_utils import is_bnb_4bit_available
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn

from tunewright_trl.forwards import Forwards


class LowRank(torch.autograd.Function):
    """`x` [N, in], a frozen linear layer `base`, `down` [r, in], `up` [out, r] → base(x) + s · x downᵀ upᵀ.

    Packed weights are unpacked for the product and again in the backward, and not kept between. Where the adapter's
    type is another one than the base's, its product is worked out in its own and added in it, as PEFT does.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, base: Any, down: torch.Tensor, up: torch.Tensor, scale: float
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight = _weight(base)
        found = flat @ weight.t() if base.bias is None else torch.addmm(base.bias, flat, weight.t())
        inner = flat.to(down.dtype) @ down.t()
        if found.dtype == up.dtype:
            found.addmm_(inner, up.t(), alpha=scale)
        else:
            found = torch.addmm(found.to(up.dtype), inner, up.t(), alpha=scale).to(found.dtype)
        ctx.save_for_backward(x, inner, down, up)
        ctx.base, ctx.scale = base, scale
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inner, down, up = ctx.saved_tensors
        slope = grads[0].reshape(-1, grads[0].shape[-1])
        flat, own = x.reshape(-1, x.shape[-1]), slope.to(up.dtype)
        to_inner = (own @ up).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = slope @ _weight(ctx.base)
            if to_x.dtype == down.dtype:
                to_x.addmm_(to_inner, down)
            else:
                to_x += (to_inner @ down).to(to_x.dtype)
            to_x = to_x.view(x.shape)
        return to_x, None, to_inner.t() @ flat.to(down.dtype), (own.t() @ inner).mul_(ctx.scale), None


def _weight(base: Any) -> torch.Tensor:
    """The weights [out, in] of a linear layer, unpacked where they are packed in 4 bits."""
    weight: torch.Tensor = base.weight
    if type(base) is nn.Linear:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)  # type: ignore[attr-defined]
    return unpacked if base.compute_dtype is None else unpacked.to(base.compute_dtype)


class LowRankLayers(Forwards):
    """While it lasts, every plain LoRA layer of `model` runs as one function; others stay as they are."""

    def __init__(self, model: Any) -> None:
        kinds = dict(_kinds())
        super().__init__(
            (module, _forward)
            for module in model.modules()
            if type(module) in kinds and type(module.base_layer) is kinds[type(module)] and _is_plain(module)
        )


def _kinds() -> Iterator[tuple[type, type]]:
    """PEFT's layers, and the frozen ones that each may stand over."""
    yield LoraLinear, nn.Linear
    if is_bnb_4bit_available():
        from bitsandbytes.nn import Linear4bit
        from peft.tuners.lora.bnb import Linear4bit as Lora4bit

        yield Lora4bit, Linear4bit


def _is_plain(layer: Any) -> bool:
    """Whether it has one adapter that is nothing but the product of two matrices, over weights that are not trained."""
    base, active = layer.base_layer, layer.active_adapters
    if len(active) != 1 or base._forward_hooks or base._forward_pre_hooks:
        return False
    name = active[0]
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and getattr(layer.lora_dropout[name], "p", 0.0) == 0.0
        and layer.lora_A[name].bias is None
        and layer.lora_B[name].bias is None
        and not any(parameter.requires_grad for parameter in base.parameters())
    )


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    base, active = self.base_layer, self.active_adapters
    packed = getattr(getattr(base.weight, "quant_state", None), "packing_format_for_cpu", False)
    other_type = x.dtype != (getattr(base, "compute_dtype", None) or x.dtype)
    mixed = torch.is_autocast_enabled(x.device.type)  # which chooses a type for each product
    if args or kwargs or self.disable_adapters or self.merged or packed or other_type or mixed or len(active) != 1:
        found: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return found
    down, up = self.lora_A[active[0]].weight, self.lora_B[active[0]].weight
    return LowRank.apply(x, base, down, up, self.scaling[active[0]])
