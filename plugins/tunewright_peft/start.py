"""Where a LoRA's A and B begin when they begin in the base's own weights: PiSSA, OLoRA, LoftQ.

PiSSA (Meng et al. 2024, https://arxiv.org/abs/2404.02948) and OLoRA (Büyükakyüz 2024,
https://arxiv.org/abs/2406.01775) train W - s B0 A0 + s B A, with A0 and B0 taken from W. PEFT writes W - s B0 A0 into
the base, which rounds it, and so no base is left that the adapter could be put on. Here the base stays as it is: each
layer's output loses s B0 A0 x in its forward, and what is saved is the plain LoRA of twice the rank that is the same
function of W, s [B, -B0] [A; A0].

LoftQ (Li et al. 2023, https://arxiv.org/abs/2310.08659) begins at what 4 bits lose: s B A is the best
approximation of W - Q(W). PEFT's own needs a GPU, and leaves out s.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput
from tunewright.parts.base import BadOption

A, B, SCALE = "start_A", "start_B", "start_scale"
"""What a base layer holds of its start, beside its own weights and in no state dict."""


def from_weights(model: Any, adapter: str, init: str) -> None:
    """Start at the base's largest parts (`pissa`, `pissa_niter_N`) or at its QR factors (`olora`); fp32.

    Raises `BadOption` where a layer has no matrix of this kind, or a rank is larger than the matrix has.
    """
    for path, layer in _layers(model):
        base = layer.get_base_layer()
        if base.weight.is_meta:  # no numbers: the shapes are all that is asked for
            continue
        if adapter not in layer.lora_A or (init == "olora" and layer.fan_in_fan_out):
            message = f"`{init}` starts from a linear layer's weights, and `{path}` is none"
            raise BadOption("bad-value", message, "init", "leave it out of `targets`, or take `init: default`")
        _refuse_rank(path, layer.r[adapter], base.weight, init)
        weight = base.weight.data
        base.weight.data = weight.clone()  # PEFT changes it, in place or not
        try:
            layer.olora_init(adapter) if init == "olora" else layer.pissa_init(adapter, init)
        finally:
            base.weight.data = weight
        for name, side in ((A, layer.lora_A), (B, layer.lora_B)):
            base.register_buffer(name, side[adapter].weight.detach().clone(), persistent=False)
        setattr(base, SCALE, layer.scaling[adapter])
        base.register_forward_hook(_without_start)


def from_loss(model: Any, adapter: str, folder: Path) -> None:
    """Start at what the packed layers lost of the weights in `folder`, the base's own safetensors.

    Raises `BadOption` where no layer is packed, `BadInput` where the folder lacks a weight.
    """
    from peft.utils.integrations import dequantize_module_weight

    packed = [(path, layer) for path, layer in _layers(model) if type(layer.get_base_layer()).__name__ == "Linear4bit"]
    if not packed:
        raise BadOption("bad-value", "`loftq` starts from what 4 bits lose, and no adapted layer is packed", "init")
    read = _reader(folder)
    for path, layer in packed:
        base = layer.get_base_layer()
        held = dequantize_module_weight(base).float()
        lost = read(f"{path}.weight").to(held) - held
        _refuse_rank(path, layer.r[adapter], lost, "loftq")
        b, a = _nearest(lost / layer.scaling[adapter], layer.r[adapter])
        layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data = a, b


def converted(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """The adapter's tensors with its start taken off, in fp32; as they are where it began at nothing."""
    import torch

    found = dict(tensors)
    for path, layer in _layers(model):
        base = layer.get_base_layer()
        if hasattr(base, SCALE):
            for name, start, dim in ((f"{path}.lora_A.weight", base.start_A, 0),
                                     (f"{path}.lora_B.weight", -base.start_B, 1)):  # fmt: skip
                name = f"base_model.model.{name}"
                found[name] = torch.cat([found[name].float(), start.to(found[name].device)], dim)
    return found


def is_kept(model: Any) -> bool:
    """Whether the model holds a start that is to be taken off."""
    return any(hasattr(layer.get_base_layer(), SCALE) for _, layer in _layers(model))


def widened(config: Any) -> Any:
    """The config of `converted`: twice the rank, and an alpha that keeps alpha / r, or alpha / √r with rsLoRA."""
    wide = copy.deepcopy(config)
    grown = math.sqrt(2) if config.use_rslora else 2
    wide.r, wide.lora_alpha = 2 * config.r, grown * config.lora_alpha
    # a layer of a rank or an alpha of its own: the same holds for each
    wide.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    wide.alpha_pattern = {name: grown * alpha for name, alpha in config.alpha_pattern.items()}
    return wide


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Each LoRA layer with its path in the base."""
    from peft.tuners.lora import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield path.removeprefix("base_model.model."), module


def _without_start(base: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    from torch.nn.functional import linear

    start = linear(linear(inputs[0].to(base.start_A.dtype), base.start_A), base.start_B)
    return output - (start * base.start_scale).to(output.dtype)


def _nearest(matrix: Any, rank: int) -> tuple[Any, Any]:
    """B and A of this rank whose product is nearest to a matrix, the singular values shared between both."""
    import torch

    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).contiguous(), (root[:, None] * v[:rank]).contiguous()


def _refuse_rank(path: str, rank: int, matrix: Any, init: str) -> None:
    if rank > min(matrix.shape):
        message = f"`{init}` finds at most {min(matrix.shape)} ranks in `{path}`, and its rank is {rank}"
        raise BadOption("bad-value", message, "init", "take a smaller rank, or `init: default`")


def _reader(folder: Path) -> Callable[[str], Any]:
    """Tensors by name out of a model's folder, each read when it is asked for."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"

    def read(name: str) -> Any:
        try:
            file = json.loads(index.read_text("utf-8"))["weight_map"][name] if index.is_file() else "model.safetensors"
            with safe_open(folder / file, "pt") as tensors:
                return tensors.get_tensor(name)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            message = f"`loftq` needs the base's own weights, and {folder.name} has no `{name}`: {error}"
            raise BadInput(message, fix="take `init: default`") from error

    return read
