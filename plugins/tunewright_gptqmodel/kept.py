"""Packed layers that a CPU unpacks once while it asks a small model, and not for every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunewright.parts.quantizer import KEPT_AT_MOST


def keep_unpacked(layers: Sequence[Any]) -> None:
    """Let gptqmodel's layers of a model keep what `dequantize_weight` gives from the first answer on, where they lie on
    a CPU and take `KEPT_AT_MOST` bytes together."""
    numbers = sum(layer.in_features * layer.out_features * layer.scales.element_size() for layer in layers)
    if numbers <= KEPT_AT_MOST and all(layer.qweight.device.type == "cpu" for layer in layers):
        for layer in layers:
            layer.dequantize_weight = _Kept(layer, layer.dequantize_weight)


class _Kept:
    """A layer's weights, unpacked anew where its packed ones are others."""

    def __init__(self, layer: Any, unpack: Callable[..., Any]) -> None:
        self.layer, self.unpack = layer, unpack
        self.of: tuple[Any, int] | None = None
        self.weight: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        packed = self.layer.qweight
        if self.of is None or self.of[0] is not packed or self.of[1] != packed._version:
            self.weight, self.of = self.unpack(*args, **kwargs), (packed, packed._version)
        return self.weight
