"""Several LoRAs become one by PEFT's own hands, on a base that has modules and no numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import digest_tensors
from tunewright.errors import Refused
from tunewright_peft import files
from tunewright_peft.method import NAME, fill, inject, refuse_unlike, tensors_of

PEFT_TYPE = "LORA"


def combine(
    outline: Any, adapters: Sequence[tuple[Path, float]], arguments: Mapping[str, Any], seed: int, out: Path
) -> str:
    """Write the one adapter that `adapters`, saved folders with their weights, make into the empty folder `out`.

    `outline` is the base without its numbers, and is changed; `arguments` are those of PEFT's `add_weighted_adapter`.
    Computed and written in fp32. Gives the digest of its tensors. Raises `Refused`.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        wrapped = None
        names = [f"combined{place}" for place in range(len(adapters))]
        for name, (saved, _) in zip(names, adapters, strict=True):
            wrapped = _put(hollow(outline) if wrapped is None else wrapped, name, saved)
        before = {place for name in names for place in _adapted(tensors_of(wrapped, name))}
        torch.default_generator.manual_seed(seed)
        _add(wrapped, names, [weight for _, weight in adapters], arguments)
    made: Any = wrapped
    tensors = tensors_of(made)
    # PEFT's new alpha is the rank, for a scale of 1; with rsLoRA, as the first adapter may have it, it would be √r
    config = dataclasses.replace(made.peft_config[NAME], use_rslora=False)
    _refuse_unlike(tensors, before, config.r)
    files.write(config, tensors, out)
    return digest_tensors(tensors.items())


def refuse_misfit(outline: Any, saved: Path) -> None:
    """Raise `Refused` unless a saved adapter has a tensor for each that the base's layers would have, and no other.

    No number is read. `outline` is changed.
    """
    wrapped = _wrapped(outline, NAME, saved)
    refuse_unlike(saved, tensors_of(wrapped), files.read_shapes(saved))


def hollow(outline: Any) -> Any:
    """The model with zeros of no size in place of its numbers: PEFT puts its layers on it as on a loaded one."""
    import torch

    for module in outline.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                nothing = torch.zeros(()).expand(parameter.shape)
                module._parameters[name] = torch.nn.Parameter(nothing, requires_grad=False)
    return outline


def _put(model: Any, name: str, saved: Path) -> Any:
    """The model with one more adapter, in fp32."""
    wrapped = _wrapped(model, name, saved)
    fill(wrapped, saved, tensors_of(wrapped, name), name)
    return wrapped


def _wrapped(model: Any, name: str, saved: Path) -> Any:
    """The model with the layers of one more adapter, before its numbers are read."""
    config = files.read_config(saved, PEFT_TYPE)
    config.inference_mode, config.base_model_name_or_path = True, None
    try:
        if not hasattr(model, "peft_config"):
            return inject(model, config, name)
        model.add_adapter(name, config)
    except (TypeError, ValueError) as error:
        raise Refused(f"{saved.name} is not an adapter of this base: {error}") from error
    return model


def _add(wrapped: Any, names: list[str], weights: list[float], arguments: Mapping[str, Any]) -> None:
    try:
        wrapped.base_model.add_weighted_adapter(names, weights, NAME, **arguments)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        how, why = arguments["combination_type"], " ".join(str(error).split())
        raise Refused(f"PEFT cannot combine these adapters by `{how}`: {why}", fix="take `combination: cat`") from error


def _refuse_unlike(tensors: Mapping[str, Any], before: set[str], rank: int) -> None:
    """Layers that PEFT left out, and tensors of another rank than the config says: nobody could load them."""
    lost = sorted(before ^ _adapted(tensors))
    if lost:
        raise Refused(f"combined, `{lost[0]}` would not be as the adapters have it: they choose their layers in "
                      "different ways", fix="combine adapters that name their layers alike")  # fmt: skip
    for name, tensor in sorted(tensors.items()):
        found = tensor.shape[1] if ("lora_B" in name or "lora_embedding_B" in name) else tensor.shape[0]
        if found != rank:
            raise Refused(f"combined, `{name}` would have rank {found}, and the adapter rank {rank}",
                          fix="set a smaller `svd_rank`, or take `combination: cat`")  # fmt: skip


def _adapted(tensors: Mapping[str, Any]) -> set[str]:
    """The paths of the layers that an adapter's tensors belong to."""
    return {name.partition(".lora_")[0] for name in tensors}
