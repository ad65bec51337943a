"""Which linear layers an adapter is put on: by role for whole families, or by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Roles = Literal["attention", "mlp", "attention+mlp"]

_LLAMA = {"attention": ("k_proj", "o_proj", "q_proj", "v_proj"), "mlp": ("down_proj", "gate_proj", "up_proj")}
KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA)
"""Projections by `model_type`, for checks before anything is fetched; another type is read off the loaded model."""

OTHERS = ("embed_tokens", "lm_head")
"""Modules of the known families that a list may name and that have no role."""

_PARENTS = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward")}


def expand(targets: Roles | Sequence[str], projections: Mapping[str, Sequence[str]]) -> list[str]:
    """The module names that `targets` stands for, sorted."""
    if isinstance(targets, str):
        return sorted({name for role in targets.split("+") for name in projections[role]})
    return sorted(set(targets))


def projections_of(model: Any) -> dict[str, list[str]]:
    """Names of a model's linear layers by role. The role is that of the module that holds them: `self_attn.q_proj`."""
    found: dict[str, set[str]] = {role: set() for role in _PARENTS}
    for path in adaptable(model):
        *_, parent, name = ("", *path.split("."))
        for role, words in _PARENTS.items():
            if any(word in parent for word in words):
                found[role].add(name)
    return {role: sorted(names) for role, names in found.items()}


def adaptable(model: Any) -> list[str]:
    """Paths of the modules that a LoRA can be put on: linear layers, quantized ones too, and embeddings."""
    from torch.nn import Embedding, Linear

    # quantized layers of other libraries are not `Linear`, but have its two sizes
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (Linear, Embedding))
        or (hasattr(module, "in_features") and hasattr(module, "out_features"))
    ]


def missing(targets: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Those of `targets` that name none of `paths`, matched as PEFT does: the whole path, or its end after a dot."""
    dotted = [f".{path}" for path in paths]
    return sorted(target for target in targets if not any(path.endswith(f".{target}") for path in dotted))
