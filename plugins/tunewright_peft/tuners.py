"""PEFT's tuners by type: which of them a spec can name, their configs' arguments, and what each can do.

Written out so that `validate` imports nothing; a test holds it equal to the installed PEFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Known(NamedTuple):
    """A tuner: its config's class, that config's own arguments, and what was tried of it.

    `merges`: it folds into the base's weights. `packed`: it works on weights packed in 4 or in 8 bits. The others fail
    on them, or on 8 bits take the packed integers for the weights, without an error: HRA and PEANUT do.
    """

    config: str
    arguments: str
    merges: bool = True
    packed: bool = False


_EVERY = " init_weights modules_to_save target_modules"
_LAYERS = f"{_EVERY} layers_pattern layers_to_transform"
_LINEAR = f"{_LAYERS} bias"

TUNERS: Mapping[str, Known] = {
    "BEFT": Known("BeftConfig", _EVERY, merges=False),
    "C3A": Known("C3AConfig", "block_size block_size_pattern" + _LINEAR),
    "DEFT": Known(
        "DeftConfig",
        "alpha decomposition_method deft_dropout exclude_modules fan_in_fan_out init_scale para r" + _LINEAR,
    ),
    "DELORA": Known(
        "DeloraConfig", "delora_lambda exclude_modules lambda_pattern module_dropout r rank_pattern" + _LINEAR
    ),
    "FOURIERFT": Known(
        "FourierFTConfig",
        "exclude_modules fan_in_fan_out n_frequency n_frequency_pattern random_loc_seed scaling" + _LINEAR,
    ),
    "FROD": Known(
        "FrodConfig",
        "fan_in_fan_out frod_dropout progressbar projection_prng_key regularization_alpha runtime_offload_base_weight "
        "save_projection sparse_rate" + _LINEAR,
    ),
    "GLORA": Known("GloraConfig", "bias config_A_B config_C config_D_E r" + _EVERY),
    "GRALORA": Known("GraloraConfig", "alpha fan_in_fan_out gralora_dropout gralora_k hybrid_r r" + _LINEAR),
    "HIRA": Known("HiraConfig", "exclude_modules fan_in_fan_out hira_dropout r rank_pattern" + _LAYERS, packed=True),
    "HRA": Known("HRAConfig", "apply_GS exclude_modules r" + _LINEAR),
    "LILY": Known("LilyConfig", "exclude_modules num_B r scaling stride_A" + _LAYERS, merges=False),
    "LN_TUNING": Known("LNTuningConfig", "exclude_modules modules_to_save target_modules", packed=True),
    "LOHA": Known(
        "LoHaConfig",
        "alpha alpha_pattern exclude_modules module_dropout r rank_dropout rank_pattern use_effective_conv2d" + _LAYERS,
    ),
    "LOKR": Known(
        "LoKrConfig",
        "alpha alpha_pattern decompose_both decompose_factor exclude_modules module_dropout r rank_dropout "
        "rank_dropout_scale rank_pattern use_effective_conv2d" + _LAYERS,
    ),
    "MISS": Known("MissConfig", "exclude_modules mini_r miss_dropout r" + _LINEAR),
    "OFT": Known(
        "OFTConfig",
        "block_share coft eps exclude_modules fan_in_fan_out module_dropout num_cayley_neumann_terms oft_block_size r "
        "use_cayley_neumann" + _LINEAR,
    ),
    "PEANUT": Known("PeanutConfig", "act_fn depth exclude_modules r scaling" + _LAYERS),
    "PSOFT": Known(
        "PsoftConfig",
        "ab_svd_init cayley_neumann_eps exclude_modules fan_in_fan_out num_cayley_neumann_terms psoft_alpha "
        "psoft_dropout psoft_mag_a psoft_mag_b psoft_orth psoft_svd psoft_svd_lowrank_niter r random_seed "
        "use_cayley_neumann" + _LAYERS,
    ),
    "PVERA": Known(
        "PveraConfig",
        "d_initial fan_in_fan_out generator_seed projection_prng_key pvera_dropout r sample_at_inference "
        "save_projection" + _LINEAR,
        packed=True,
    ),
    "RANDLORA": Known(
        "RandLoraConfig",
        "fan_in_fan_out projection_prng_key r randlora_alpha randlora_dropout save_projection sparse very_sparse"
        + _LINEAR,
        packed=True,
    ),
    "ROAD": Known("RoadConfig", "group_size variant" + _EVERY, packed=True),
    "SHIRA": Known("ShiraConfig", "fan_in_fan_out mask_type r random_seed" + _EVERY),
    "SUPERTUNING": Known(
        "SupertuningConfig", "lora_alpha lora_dropout r save_precomputed_indices select_top sparsity" + _EVERY
    ),
    "TINYLORA": Known(
        "TinyLoraConfig",
        "fan_in_fan_out init_v_bound projection_seed r save_projection tinylora_dropout u weight_tying" + _LINEAR,
    ),
    "TRAINABLE_TOKENS": Known("TrainableTokensConfig", "init_weights target_modules token_indices", packed=True),
    "UNILORA": Known(
        "UniLoraConfig",
        "fan_in_fan_out init_theta_d_bound proj_seed r save_indices theta_d_length unilora_dropout" + _LINEAR,
    ),
    "VBLORA": Known(
        "VBLoRAConfig",
        "bias exclude_modules fan_in_fan_out init_logits_std init_vector_bank_bound layers_pattern layers_to_transform "
        "modules_to_save num_vectors r save_only_topk_weights target_modules topk vblora_dropout vector_length",
    ),
    "VERA": Known(
        "VeraConfig",
        "d_initial fan_in_fan_out projection_prng_key r save_projection vera_dropout" + _LINEAR,
        packed=True,
    ),
    "WAVEFT": Known(
        "WaveFTConfig",
        "exclude_modules fan_in_fan_out n_frequency n_frequency_pattern proportional_parameters random_loc_seed "
        "scaling use_idwt wavelet_family" + _LINEAR,
    ),
}
"""Tuners that put weights into the model's own modules, and train with nothing but a loss."""

DRAWS = frozenset({"PVERA"})
"""Tuners whose update is drawn from a distribution in training: PEFT's tuners/pvera/layer.py."""

_PROMPTS = "it puts virtual tokens before the prompt, which no engine here does: the model would answer without them"
REFUSED: Mapping[str, str] = {
    "LORA": "it is the kind `lora`",
    "IA3": "it is the kind `ia3`",
    "ADALORA": "its ranks are given out anew by a call after each step, which no trainer here makes",
    "ADAMSS": "its subspaces are chosen anew by a call after each step, which no trainer here makes",
    "ADAPTION_PROMPT": "it replaces the model's attention, and was not proven to answer alike in every engine",
    "BOFT": "PEFT compiles code for it when it is made, in a folder of the user's",
    "OSF": "it saves the adapted layers whole, and so is no adapter; `adapter: none` trains them",
    "POLY": "it needs the number of a task with each row",
    "SHADOW": "it is a second network, with a loss of its own, beside the model",
    "XLORA": "it mixes adapters that were trained before, by their paths",
    **dict.fromkeys(
        ("CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"), _PROMPTS
    ),
}
"""Tuners that cannot be trained or asked here, and why."""

LOADS = frozenset({"prompt_tuning_init_state_dict_path", "runtime_config", "shadow_model", "tokenizer_name_or_path"})
"""Arguments by which PEFT would load something that the spec does not name."""
