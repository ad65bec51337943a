"""The further arguments of PEFT's `LoraConfig` that `args:` may name, known without importing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from tunewright.parts import Finding

PASSED = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_bias", "modules_to_save", "qalora_group_size",
    "rank_pattern", "target_parameters", "trainable_token_indices", "use_dora", "use_qalora", "use_rslora",
})  # fmt: skip
"""Arguments that reach the library as written."""

OURS = {
    "r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "targets", "task_type": "",
    "bias": "", "inference_mode": "", "peft_type": "", "peft_version": "", "auto_mapping": "",
    "base_model_name_or_path": "", "revision": "", "runtime_config": "",
}  # fmt: skip
"""Arguments that an option here sets (its name), or that are not a choice (empty)."""

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
    """What is wrong with the names in `args`, each at its own place."""
    for name, value in args.items():
        place = f"args.{name}"
        if name in OURS:
            suggestion = f"write `{OURS[name]}:` beside `kind`" if OURS[name] else "leave it out"
            yield Finding("repeated-argument", f"`{name}` is set by adapter `lora` itself", place, suggestion)
        elif name in UNSAFE or (name == "init_lora_weights" and value not in STARTS):
            yield Finding("unsupported-argument", f"`{name}` makes this another method than `lora`", place)
        elif name not in PASSED:
            close = get_close_matches(name, PASSED, 1)
            suggestion = f"did you mean `{close[0]}`?" if close else ""
            yield Finding("unknown-argument", f"`{name}` is not an argument of LoraConfig", place, suggestion)


def loadable_by_vllm(rank: int, args: Mapping[str, Any]) -> bool:
    """Whether vLLM takes the adapter: rank within its bound, nothing beside plain LoRA matrices."""
    ranks = [rank, *(args.get("rank_pattern") or {}).values()]
    return max(ranks) <= VLLM_MAX_RANK and not any(args.get(name) for name in NOT_FOR_VLLM)
