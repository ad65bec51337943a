"""The further arguments of TRL's configs that `args:` may name, known without importing TRL."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tunewright.parts.base import Finding
from tunewright.spec.suggest import did_you_mean

_LOOP = frozenset({
    "activation_checkpointing_kwargs", "adam_beta1", "adam_beta2", "adam_epsilon",
    "full_determinism", "lr_scheduler_kwargs", "optim_args", "pad_to_multiple_of", "router_aux_loss_coef", "tf32",
    "torch_empty_cache_steps",
})  # fmt: skip
PASSED = {
    "SFTConfig": _LOOP | {"label_smoothing_factor", "loss_type"},
    "DPOConfig": _LOOP | {
        "discopop_tau", "f_alpha_divergence_coef", "f_divergence_type", "ld_alpha", "precompute_ref_batch_size",
        "use_weighting",
    },
    "KTOConfig": _LOOP | {"precompute_ref_batch_size"},
}  # fmt: skip
"""Arguments that reach the library as written, by config."""

_IDLE = frozenset({
    # the rows come as proven tokens, and in our order
    "dataset_num_proc", "label_names", "length_column_name", "model_init_kwargs", "trust_remote_code",
    # they are read in this process
    "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    # validation is by its loss, as often as `eval_every` says
    "batch_eval_metrics", "bf16_full_eval", "do_eval", "do_predict", "do_train", "eval_accumulation_steps",
    "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_use_gather_object", "fp16_full_eval",
    "greater_is_better", "include_for_metrics", "metric_for_best_model", "use_cache",
    # TRL saves and sends nothing
    "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token",
    "ignore_data_skip", "project", "restore_callback_states_from_checkpoint", "resume_from_checkpoint", "run_name",
    "save_on_each_node", "save_only_model", "save_steps", "save_total_limit", "trackio_bucket_id", "trackio_space_id",
    "trackio_static_space_id",
    # what is logged becomes an event a step
    "include_num_input_tokens_seen", "log_level", "log_level_replica", "log_on_each_node", "logging_first_step",
    "skip_memory_metrics",
    # the optimizers that read it are not offered; there is one process
    "optim_target_modules", "average_tokens_across_devices", "local_rank",
})  # fmt: skip
_REFERENCE = frozenset({"label_smoothing_factor", "ref_model_mixup_alpha", "ref_model_sync_steps"})
IDLE = {
    "SFTConfig": _IDLE | {
        "assistant_only_loss", "chat_template_path", "completion_only_loss", "dataset_text_field", "eos_token",
        "eval_packing", "packing_strategy", "pad_token", "padding_free", "shuffle_dataset", "train_sampling_strategy",
        "truncation_mode",
    },
    "DPOConfig": _IDLE | _REFERENCE | {"pad_token", "padding_free", "train_sampling_strategy", "truncation_mode"},
    "KTOConfig": _IDLE | _REFERENCE,
}  # fmt: skip
"""Arguments that would be accepted and do nothing, by config."""

UNSUPPORTED = frozenset({
    "accelerator_config", "activation_offloading", "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters",
    "ddp_static_graph", "ddp_timeout", "debug", "deepspeed", "enable_jit_checkpoint", "fsdp", "fsdp_config",
    "liger_kernel_config", "parallelism_config", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "use_liger_kernel",
})  # fmt: skip
"""Arguments of another way to run: several devices, other kernels, a compiler, checkpoints of the library's own."""

ELSEWHERE = {
    "eval_steps": "set `eval_every` instead",
    "eval_strategy": "set `eval_every` instead",
    "learning_rate": "set `learning_rate` instead",
    "per_device_eval_batch_size": "set `batch_size` instead",
    "gradient_checkpointing": "set `checkpointing` instead",
    "gradient_checkpointing_kwargs": "name it `activation_checkpointing_kwargs`",
    "seed": "set `seed` at the top of the spec instead",
    "data_seed": "set `seed` at the top of the spec instead",
    "output_dir": "remove it",
    "use_cpu": "remove it: the model's device is used",
}
"""Arguments that follow from the spec's other parts or from the run, and what to do instead."""


def check_arguments(args: Iterable[str], config: str, named: Collection[str]) -> Iterable[Finding]:
    """What is wrong with the names in `args`, each at its own key; `named` are those that the core refuses."""
    for name in args:
        place = f"args.{name}"
        if name in IDLE[config]:
            message = f"`{name}` would do nothing: rows come as tokens, and TRL saves nothing here"
            yield Finding("argument-unused", message, place, at_key=True)
        elif name in UNSUPPORTED:
            message = f"`{name}` would run the training in a way that is not supported here"
            yield Finding("unsupported-argument", message, place, at_key=True)
        elif name in ELSEWHERE:
            yield Finding("argument-taken", f"`{name}` is not set here", place, ELSEWHERE[name], at_key=True)
        elif name not in PASSED[config] and name not in named:
            message = f"`{name}` is not an argument of {config}"
            yield Finding("unknown-argument", message, place, did_you_mean(name, PASSED[config]), at_key=True)
