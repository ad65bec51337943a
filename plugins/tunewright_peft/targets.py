"""Which modules an adapter is put on: by role for whole families, or by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from tunewright.parts.base import BadOption

Roles = Literal["attention", "mlp", "attention+mlp"]

_LLAMA = {"attention": ("k_proj", "o_proj", "q_proj", "v_proj"), "mlp": ("down_proj", "gate_proj", "up_proj")}
KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA)
"""Projections by `model_type`, for checks before anything is fetched; another type is read off the loaded model."""

OTHERS = ("embed_tokens", "lm_head")
"""Modules of the known families that a list may name and that have no role."""

INNER = (
    "input_layernorm", "k_norm", "mlp", "model", "norm", "post_attention_layernorm", "q_norm", "self_attn",
)  # fmt: skip
"""Further modules of the known families, which are no linear layers: some tuners scale or replace them."""

_HOLDERS = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "feedforward", "ffn", "moe")}
_BARE = {"attention": (), "mlp": ("fc1", "fc2", "fc_in", "fc_out")}  # layers of some families lie in no `mlp`
_ROUTERS = ("gate", "router")  # they choose among experts, and are no projection of either role


def expand(targets: Roles | Sequence[str], projections: Mapping[str, Sequence[str]]) -> list[str]:
    """The module names that `targets` stands for, sorted. Raises `BadOption` for a role that no layer has."""
    if not isinstance(targets, str):
        return sorted(set(targets))
    roles = targets.split("+")
    for role in roles:
        if not projections[role]:
            known = {name for names in projections.values() for name in names}
            raise no_target(f"linear layer of the role `{role}`", known)
    return sorted({name for role in roles for name in projections[role]})


def projections_of(model: Any) -> dict[str, list[str]]:
    """Names of a model's linear layers by role. The role is that of the module that holds them: `self_attn.q_proj`.

    Where a name stands for layers of another role as well, as `c_proj` does in GPT-2, its holder is named with it.
    """
    roles = {path: _role(path) for path in adaptable(model)}
    found: dict[str, set[str]] = {role: set() for role in _HOLDERS}
    for path, role in roles.items():
        if role:
            last = path.rpartition(".")[2]
            alone = all(other == role for named, other in roles.items() if _ends(named, last))
            found[role].add(last if alone else ".".join(path.split(".")[-2:]))
    return {role: sorted(names) for role, names in found.items()}


def _role(path: str) -> str:
    *_, holder, name = ("", *path.split("."))
    if name in _ROUTERS:
        return ""
    for role, words in _HOLDERS.items():
        if any(word in holder.lower() for word in words) or name in _BARE[role]:
            return role
    return ""


def adaptable(model: Any) -> list[str]:
    """Paths of the modules that a LoRA can be put on: linear layers, quantized ones too, and embeddings."""
    from torch.nn import Embedding, Linear
    from transformers.pytorch_utils import Conv1D

    # quantized layers of other libraries are not `Linear`, but have its two sizes
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (Linear, Embedding, Conv1D))
        or (hasattr(module, "in_features") and hasattr(module, "out_features"))
    ]


def missing(targets: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Those of `targets` that name none of `paths`, matched as PEFT does: the whole path, or its end after a dot."""
    known = list(paths)
    return sorted(target for target in targets if not any(_ends(path, target) for path in known))


def reached(targets: str | Collection[str] | None, paths: Iterable[str]) -> list[str]:
    """The paths that PEFT's `target_modules` stands for: an expression for the whole path, or ends of paths."""
    if isinstance(targets, str):
        return sorted(path for path in paths if re.fullmatch(targets, path))
    return sorted(path for path in paths if any(_ends(path, target) for target in targets or ()))


def refuse_missing(field: str, targets: Iterable[str], paths: Collection[str]) -> None:
    """Raise `BadOption` on `field` where a name is none of the model's modules: PEFT would pass over it in silence."""
    unknown = missing(targets, paths)
    if unknown:
        raise no_target(f"module `{unknown[0]}`", {path.rpartition(".")[2] for path in paths} - {""}, field)


def refuse_unreached(field: str, expression: str, paths: Collection[str]) -> None:
    """The same for a `target_modules` that is a text: an expression for the whole path."""
    try:
        found = reached(expression, paths)
    except re.error as error:
        message = f"`{expression}` is no regular expression: {error}"
        raise BadOption("bad-value", message, field, "mend it, or list the modules") from error
    if not found:
        names = {path.rpartition(".")[2] for path in paths} - {""}
        raise no_target(f"module whose whole path `{expression}` matches", names, field)


def refuse_unmatched(field: str, patterns: Iterable[str], paths: Collection[str]) -> None:
    """The same for PEFT's patterns: an expression for a path's end after a dot."""
    for pattern in patterns:
        try:
            known = any(re.match(rf"(.*\.)?({pattern})$", path) for path in paths)
        except re.error as error:
            raise BadOption("bad-value", f"`{pattern}` is no regular expression: {error}", field) from error
        if not known:
            names = {path.rpartition(".")[2] for path in paths}
            raise no_target(f"adapted module that `{pattern}` matches", names, field)


def no_target(what: str, known: Iterable[str], field: str = "targets") -> BadOption:
    """The error for a name that is not there, with those that are."""
    listed = ", ".join(sorted(name for name in known if not name.isdigit()))
    return BadOption("unknown-target", f"the model has no {what}", field, f"it has: {listed}")


def _ends(path: str, name: str) -> bool:
    return f".{path}".endswith(f".{name}")
