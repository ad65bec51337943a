"""The trained parameters of a model, by name: what a checkpoint holds, and what validation chose."""

from __future__ import annotations

from typing import Any

import torch

from tunewright.errors import Refused


def trained(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter that is trained, by its name in the model: the parameters themselves, not copies."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def copied(model: Any) -> dict[str, torch.Tensor]:
    """The same on the CPU, which further training leaves as they are."""
    return {name: weight.to("cpu", copy=True).contiguous() for name, weight in trained(model).items()}


def put(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Overwrite the trained parameters. Raises `Refused` unless names, shapes and dtypes are the model's own."""
    own = trained(model)
    unlike = {(n, p.shape, p.dtype) for n, p in own.items()} ^ {(n, w.shape, w.dtype) for n, w in weights.items()}
    if unlike:
        raise Refused(f"the checkpoint is of another model: `{min(name for name, *_ in unlike)}` does not match")
    for name, parameter in own.items():
        parameter.copy_(weights[name])
