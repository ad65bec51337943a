"""The further arguments of TRL's `SFTConfig` that `args:` may name, known without importing it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tunewright.parts.base import Finding
from tunewright.spec.suggest import did_you_mean

PASSED = frozenset({
    "activation_checkpointing_kwargs", "activation_offloading", "adam_beta1", "adam_beta2", "adam_epsilon",
    "full_determinism", "label_smoothing_factor", "loss_type", "lr_scheduler_kwargs", "neftune_noise_alpha",
    "optim_args", "pad_to_multiple_of", "router_aux_loss_coef", "tf32", "torch_empty_cache_steps",
})  # fmt: skip
"""Arguments that reach the library as written."""

IDLE = frozenset({
    # the rows come as proven tokens, and in our order
    "assistant_only_loss", "chat_template_path", "completion_only_loss", "dataset_num_proc", "dataset_text_field",
    "eos_token", "label_names", "length_column_name", "model_init_kwargs", "packing_strategy", "pad_token",
    "padding_free", "shuffle_dataset", "train_sampling_strategy", "truncation_mode", "trust_remote_code",
    # they are read in this process
    "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    # nothing is evaluated during training
    "batch_eval_metrics", "bf16_full_eval", "do_eval", "do_predict", "do_train", "eval_accumulation_steps",
    "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_packing", "eval_steps", "eval_use_gather_object",
    "fp16_full_eval", "greater_is_better", "include_for_metrics", "metric_for_best_model",
    "per_device_eval_batch_size", "prediction_loss_only", "use_cache",
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
"""Arguments that would be accepted and do nothing."""

UNSUPPORTED = frozenset({
    "accelerator_config", "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters",
    "ddp_static_graph", "ddp_timeout", "debug", "deepspeed", "enable_jit_checkpoint", "fsdp", "fsdp_config",
    "liger_kernel_config", "parallelism_config", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "use_liger_kernel",
})  # fmt: skip
"""Arguments of another way to run: several devices, other kernels, a compiler, checkpoints of the library's own."""

ELSEWHERE = {
    "gradient_checkpointing": "set `checkpointing` instead",
    "gradient_checkpointing_kwargs": "name it `activation_checkpointing_kwargs`",
    "seed": "set `seed` at the top of the spec instead",
    "data_seed": "set `seed` at the top of the spec instead",
    "output_dir": "remove it",
    "use_cpu": "remove it: the model's device is used",
}
"""Arguments that follow from the spec's other parts or from the run, and what to do instead."""


def check_arguments(args: Iterable[str], named: Collection[str]) -> Iterable[Finding]:
    """What is wrong with the names in `args`, each at its own key; `named` are those that the core refuses."""
    for name in args:
        place = f"args.{name}"
        if name in IDLE:
            message = f"`{name}` would do nothing: rows come as tokens, and TRL neither evaluates nor saves here"
            yield Finding("argument-unused", message, place, at_key=True)
        elif name in UNSUPPORTED:
            message = f"`{name}` would run the training in a way that `sft` does not support"
            yield Finding("unsupported-argument", message, place, at_key=True)
        elif name in ELSEWHERE:
            yield Finding("argument-taken", f"`{name}` is not set here", place, ELSEWHERE[name], at_key=True)
        elif name not in PASSED and name not in named:
            message = f"`{name}` is not an argument of SFTConfig"
            yield Finding("unknown-argument", message, place, did_you_mean(name, PASSED), at_key=True)
