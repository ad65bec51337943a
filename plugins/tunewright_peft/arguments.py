"""The further arguments of PEFT's configs that `args:` may name, known without importing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunewright.parts import Finding
from tunewright.spec.suggest import did_you_mean

PASSED = frozenset({
    "alora_invocation_tokens", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out", "layers_pattern",
    "layers_to_transform", "lora_bias", "qalora_group_size", "target_parameters", "trainable_token_indices",
    "use_qalora",
})  # fmt: skip
"""Arguments of `LoraConfig` that reach the library as written."""

NAMED = frozenset({
    "alpha_pattern", "bias", "lora_alpha", "lora_dropout", "modules_to_save", "r", "rank_pattern", "task_type",
    "use_dora", "use_rslora",
})  # fmt: skip
"""Arguments that an option or `fixed` names: the core refuses these for every backend."""

OURS = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision",
    "runtime_config",
})  # fmt: skip
"""Arguments of every config that follow from the run."""

INSTEAD = {"init_lora_weights": "init", "target_modules": "targets"}
"""Arguments that follow from an option, and which."""

TAKEN = OURS | INSTEAD.keys()

UNSAFE = frozenset({
    "arrow_config", "corda_config", "eva_config", "kasa_config", "layer_replication", "loftq_config", "lora_ga_config",
    "megatron_config", "megatron_core", "monteclora_config", "use_bdlora", "velora_config",
})  # fmt: skip
"""Arguments of methods that change the base, need data at the start, or load code by name: not a plain LoRA."""

# what vLLM refuses to load beside a plain LoRA, what a GGUF cannot say, and what PEFT cannot fold into the base
NOT_FOR_VLLM = ("lora_bias", "trainable_token_indices", "alora_invocation_tokens", "target_parameters", "use_qalora")
NOT_FOR_LLAMACPP = (*NOT_FOR_VLLM, "fan_in_fan_out")
NOT_MERGED = ("lora_bias", "alora_invocation_tokens")
# what makes a token's update depend on where others stand in its row
NOT_BY_TOKEN = ("alora_invocation_tokens",)
# what PEFT's layers over packed weights of other libraries refuse, or leave out without a word
NOT_BESIDE = ("alora_invocation_tokens", "target_parameters", "use_qalora")
# what only says which layers get an adapter
ONLY_WHERE = frozenset({"exclude_modules", "layers_pattern", "layers_to_transform"})
VLLM_MAX_RANK = 512


def check_arguments(args: Mapping[str, Any]) -> Iterable[Finding]:
    """What is wrong with the names in LoRA's `args`, each at its own key."""
    for name in args:
        place = f"args.{name}"
        if name in UNSAFE:
            message = f"`{name}` makes this another method than `lora`"
            yield Finding("unsupported-argument", message, place, at_key=True)
        elif name in TAKEN:
            yield taken(name)
        elif name not in PASSED | NAMED:
            message = f"`{name}` is not an argument of LoraConfig"
            yield Finding("unknown-argument", message, place, did_you_mean(name, PASSED), at_key=True)


def taken(name: str) -> Finding:
    """The finding at an entry of `args` that the run sets, or an option."""
    instead = f"set `{INSTEAD[name]}` instead" if name in INSTEAD else "remove it"
    return Finding("argument-taken", f"`{name}` is not set here", f"args.{name}", instead, at_key=True)
