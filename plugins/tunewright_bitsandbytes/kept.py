"""4-bit layers that a CPU unpacks once while it asks a small model, and not for every token.

The numbers are those of bitsandbytes' own forward on a CPU, which unpacks a layer and multiplies by it.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Sequence
from typing import Any

from tunewright.parts.quantizer import KEPT_AT_MOST


def keep_unpacked(layers: Sequence[Any]) -> None:
    """Let bitsandbytes' `Linear4bit` layers of a model keep their unpacked weights from the first answer on, where
    they lie on a CPU and take `KEPT_AT_MOST` bytes together."""
    numbers = sum(layer.in_features * layer.out_features * _type(layer).itemsize for layer in layers)
    if numbers <= KEPT_AT_MOST and all(layer.weight.device.type == "cpu" for layer in layers):
        for layer in layers:
            layer.forward = types.MethodType(_forward, layer)


def _type(layer: Any) -> Any:
    return layer.compute_dtype or layer.weight.quant_state.dtype


def _forward(self: Any, x: Any) -> Any:
    import torch

    weight = _unpacked(self)
    bias = None if self.bias is None else self.bias.to(weight.dtype)
    return torch.nn.functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)


def _unpacked(layer: Any) -> Any:
    """The layer's weights, unpacked anew where a merge has given it others since."""
    from bitsandbytes.functional import dequantize_4bit

    packed = layer.weight
    kept = vars(layer).get("kept_unpacked")
    if kept is None or kept[0] is not packed or kept[1] != packed._version:
        state = copy.copy(packed.quant_state)
        # as the library has it where nothing is trained, not rounded to the type of the model
        state.dtype = _type(layer)
        kept = layer.kept_unpacked = (packed, packed._version, dequantize_4bit(packed.data, state))
    return kept[2]
