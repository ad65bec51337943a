"""The further arguments of PEFT's `LoraConfig` that `args:` may name, known without importing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunewright.parts import Finding
from tunewright.spec.suggest import did_you_mean

PASSED = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_bias", "modules_to_save", "qalora_group_size",
    "rank_pattern", "target_parameters", "trainable_token_indices", "use_dora", "use_qalora", "use_rslora",
})  # fmt: skip
"""Arguments that reach the library as written."""

NAMED = frozenset({"bias", "lora_alpha", "lora_dropout", "r", "task_type"})
"""Arguments that an option or `fixed` names: the core refuses these for every backend."""

TAKEN = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision",
    "runtime_config", "target_modules",
})  # fmt: skip
"""Arguments that follow from the options or from the run."""

UNSAFE = frozenset({
    "arrow_config", "corda_config", "eva_config", "kasa_config", "layer_replication", "loftq_config", "lora_ga_config",
    "megatron_config", "megatron_core", "monteclora_config", "use_bdlora", "velora_config",
})  # fmt: skip
"""Arguments of methods that change the base, need data at the start, or load code by name: not a plain LoRA."""

STARTS = (True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the base's weights as they are; the adapter is bound to those."""

# what vLLM refuses to load beside a plain LoRA
NOT_FOR_VLLM = ("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices", "alora_invocation_tokens")
VLLM_MAX_RANK = 512


def check_arguments(args: Mapping[str, Any]) -> Iterable[Finding]:
    """What is wrong with the names in `args`, each at its own key."""
    return filter(None, map(_check, args, args.values()))


def _check(name: str, value: Any) -> Finding | None:
    place = f"args.{name}"
    if name in TAKEN:
        instead = "set `targets` instead" if name == "target_modules" else "remove it"
        return Finding("argument-taken", f"`{name}` is not set here", place, instead, at_key=True)
    if name in UNSAFE or (name == "init_lora_weights" and value not in STARTS):
        message = f"`{name}` makes this another method than `lora`"
        return Finding("unsupported-argument", message, place, at_key=True)
    if name not in PASSED | NAMED:
        message = f"`{name}` is not an argument of LoraConfig"
        return Finding("unknown-argument", message, place, did_you_mean(name, PASSED), at_key=True)
    return None


def loadable_by_vllm(rank: int, args: Mapping[str, Any]) -> bool:
    """Whether vLLM takes the adapter: ranks within its bound, nothing beside plain LoRA matrices."""
    pattern = args.get("rank_pattern")
    ranks = [rank, *(pattern.values() if isinstance(pattern, dict) else ())]
    return max(ranks) <= VLLM_MAX_RANK and not any(args.get(name) for name in NOT_FOR_VLLM)
