"""What PEFT, TRL, Axolotl, LLaMA-Factory, Unsloth, Ludwig and common speech call the things of a spec.

Imported only when a word is unknown. A test holds every target to a key or a kind that exists.
"""

from __future__ import annotations

from collections.abc import Mapping


def _table(groups: Mapping[str, str]) -> dict[str, str]:
    """Each word of each group → the group's target."""
    return {word: target for target, words in groups.items() for word in words.split()}


# The way to a key → its names elsewhere, and its own: `epochs` at the top belongs into `trainer`. `list[].key` is a key
# of the list's entries, `key: value` a whole line; of ways parted by `|`, the first that the kind has.
KEYS = _table({
    "apiVersion": "api_version version_of_api",
    "name": "run_name project_name experiment_name wandb_name model_out_name",
    "seed": "random_state random_seed data_seed manual_seed",
    "model.source": "source base_model model_name_or_path model_name base_model_name_or_path name_or_path model_id"
    " pretrained_model_name_or_path model_path base_model_name model_repo",
    "model.dtype": "dtype torch_dtype bf16 fp16 pure_bf16 bfloat16 float16 half_precision mixed_precision precision"
    " compute_type",
    "model.loader": "loader",
    "quantization: nf4": "load_in_4bit quantization_bit quantization_method bits load_in_8bit quant bnb_config"
    " quantization_config bnb_4bit nf4",
    "quantization.kind": "bnb_4bit_quant_type quant_type",
    "quantization.double_quant": "double_quant bnb_4bit_use_double_quant double_quantization use_double_quant"
    " use_nested_quant",
    "quantization.compute_dtype": "compute_dtype bnb_4bit_compute_dtype",
    "quantization.skip": "skip llm_int8_skip_modules skip_modules modules_to_not_convert",
    "adapter.kind": "finetuning_type peft_type adapter_type peft_method",
    "adapter": "peft peft_config lora lora_config adapters use_peft use_lora",
    "adapter: none": "full_finetuning full_finetune full_fine_tuning",
    "adapter.r": "r rank lora_r lora_rank",
    "adapter.alpha": "alpha lora_alpha",
    "adapter.dropout": "dropout lora_dropout",
    "adapter.targets": "targets target_modules lora_target_modules lora_target lora_target_linear lora_targets"
    " lora_modules target_parameters_regex all_linear",
    "adapter.args.use_rslora": "use_rslora peft_use_rslora rslora",
    "adapter.args.use_dora": "use_dora peft_use_dora dora",
    "adapter.args.modules_to_save": "modules_to_save lora_modules_to_save additional_target",
    "adapter.args.init_lora_weights": "init_lora_weights peft_init_lora_weights",
    "adapter.args.layers_to_transform": "layers_to_transform peft_layers_to_transform",
    "adapter.args.layers_pattern": "layers_pattern peft_layers_pattern",
    "adapter.args.rank_pattern": "rank_pattern",
    "adapter.args.alpha_pattern": "alpha_pattern",
    "adapter.args.fan_in_fan_out": "fan_in_fan_out lora_fan_in_fan_out",
    "adapter.args.exclude_modules": "exclude_modules",
    "data.format": "format chat_template_config prompt_format conversation dataset_text_field formatting_func"
    " field_messages message_property_mappings",
    "data.format.system": "system system_prompt system_message default_system task",
    "data.format.prompt": "prompt input_features prompt_template field_instruction field_input instruction_template"
    " user_prompt query",
    "data.format.completion": "completion output_features field_output response response_template",
    "data.train": "train dataset datasets train_dataset train_file train_data training_data training_file train_files"
    " data_path dataset_path pretraining_dataset dataset_name training_set",
    "data.test": "test test_datasets eval_dataset test_file test_data eval_data validation_file validation_data"
    " val_set_size val_size val_file eval_file test_size validation_split_percentage",
    "data.train[].sample": "sample max_samples max_train_samples num_samples",
    "data.train[].limit": "limit",
    "data.train[].where": "where",
    "data.train[].weight": "weight interleave_probs mix_probs",
    "data.train[].path": "path data_files",
    "trainer.kind": "stage trainer_type rl training_type",
    "trainer.epochs": "epochs epoch num_train_epochs num_epochs n_epochs max_epochs train_epochs",
    "trainer.max_steps": "max_steps train_steps steps max_train_steps num_steps num_training_steps",
    "trainer.batch_size": "batch_size micro_batch_size per_device_train_batch_size train_batch_size batch bs"
    " per_device_batch_size device_batch_size per_gpu_train_batch_size effective_batch_size",
    "trainer.accumulation": "accumulation gradient_accumulation_steps gradient_accumulation grad_accum accumulate"
    " grad_accumulation_steps accumulation_steps accumulate_grad_batches",
    "trainer.learning_rate": "learning_rate lr base_learning_rate init_lr peak_learning_rate",
    "trainer.schedule": "schedule lr_scheduler_type lr_scheduler learning_rate_scheduler scheduler lr_schedule decay",
    "trainer.warmup_steps": "warmup_steps warmup_ratio warmup_fraction warmup warmup_evaluations lr_warmup_steps"
    " num_warmup_steps",
    "trainer.optimizer": "optimizer optim optimizer_type",
    "trainer.weight_decay": "weight_decay wd",
    "trainer.max_grad_norm": "max_grad_norm gradient_clipping grad_clip clipglobalnorm clip_grad_norm"
    " gradient_clip_val max_norm",
    "trainer.max_length": "max_length max_seq_length cutoff_len sequence_len max_seq_len block_size context_length"
    " max_sequence_length global_max_sequence_length seq_length model_max_length max_prompt_length max_len",
    "trainer.checkpointing": "checkpointing gradient_checkpointing activation_checkpointing use_gradient_checkpointing"
    " enable_gradient_checkpointing",
    "trainer.args.activation_checkpointing_kwargs": "gradient_checkpointing_kwargs activation_checkpointing_kwargs",
    "trainer.args.adam_beta1": "adam_beta1 beta1",
    "trainer.args.adam_beta2": "adam_beta2 beta2",
    "trainer.args.adam_epsilon": "adam_epsilon eps",
    "trainer.args.neftune_noise_alpha": "neftune_noise_alpha noisy_embedding_alpha",
    "trainer.args.label_smoothing_factor": "label_smoothing_factor label_smoothing",
    "trainer.args.lr_scheduler_kwargs": "lr_scheduler_kwargs",
    "trainer.args.optim_args": "optim_args",
    "trainer.args.loss_type": "loss_type",
    "trainer.args.tf32": "tf32",
    "evals": "evaluation evaluations evaluators evaluator eval validation_metrics benchmarks",
    "evals[].metrics": "metrics metric eval_metrics compute_metrics",
    "evals[].max_new_tokens": "max_new_tokens generation generation_config eval_max_new_tokens max_tokens",
    "gates": "gate thresholds threshold checks acceptance",
    "gates[].at_least": "at_least",
    "gates[].at_most": "at_most",
    "exports": "export exporter exporters",
    "package.version": "version adapter_version",
    "package.license": "license licence model_license",
})  # fmt: skip

# Where a word was written, its own meaning there.
HERE: Mapping[str, Mapping[str, str]] = {
    "model": _table({"model.source": "path name repo repo_id id base uri type kind"}),
    "model.source": _table({
        "model.source.path|model.source.repo|model.source.package": "base_model model_name_or_path name_or_path repo"
        " repo_id id name model_name model_path base_model_name_or_path model_id pretrained_model_name_or_path",
        "model.source.path": "dir folder directory location path",
        "model.source.package": "distribution wheel pip",
        "model.source.sha256": "hash digest checksum sha",
        "model.source.revision": "commit branch tag version ref model_revision",
        "model.source.token": "hf_token use_auth_token auth_token hub_token",
        "model.source.endpoint": "mirror hf_endpoint hub_url base_url",
        "model.source.license": "licence",
    }),
    "quantization": _table({"quantization.compute_dtype": "dtype torch_dtype"}),
    "adapter": _table({"adapter.targets": "modules layers target", "adapter.args.lora_bias": "lora_bias"}),
    "data": _table({
        "data.train": "path file files training rows",
        "data.test": "eval evaluation valid val dev testing",
        "data.format": "template chat type kind columns",
    }),
    "data.format": _table({
        "data.format.prompt": "template user input instruction question text message",
        "data.format.completion": "output answer response label target assistant reply",
        "data.format.system": "system_prompt system_message instructions preamble",
    }),
    "data.train": _table({
        "data.train[].path": "file filename file_name data_files files source url location",
        "data.train[].sample": "n num_rows rows subset size",
        "data.train[].limit": "head first max_rows take",
        "data.train[].where": "filter filters query select",
        "data.train[].weight": "repeat oversample ratio probability",
        "data.train[].delimiter": "sep separator delim",
        "data.train[].kind": "format ds_type file_type",
        "data.train[].on_error": "errors on_bad_lines skip_bad",
    }),
    "evals": _table({"evals[].metrics": "metric score scores", "evals[].max_new_tokens": "max_length max_len"}),
    "gates": _table({
        "gates[].metric": "score on eval metrics",
        "gates[].at_least": "min minimum threshold value greater_than lower ge above",
        "gates[].at_most": "max maximum less_than upper le below",
    }),
}  # fmt: skip

# What has no counterpart → what to do about it.
REMOVE = _table({
    "remove it: the model's own config says so": "model_type tokenizer_type model_config_type base_model_config"
    " rope_scaling tokenizer_config",
    "remove it: a model's own code is never run": "trust_remote_code",
    "remove it: the model's tokenizer stays as it is": "special_tokens tokens resize_vocab eos_token pad_token"
    " add_tokens padding_side tokenizer_use_fast use_fast_tokenizer tokenizer",
    "remove it: the model's own chat template is used": "chat_template template chat_template_path",
    "remove it: rows are not packed": "packing sample_packing neat_packing eval_sample_packing pad_to_sequence_len"
    " packing_strategy padding_free group_by_length multipack",
    "remove it: only the answers are learnt": "train_on_inputs completion_only_loss assistant_only_loss train_on_prompt"
    " mask_history roles_to_train train_on_eos train_on_responses_only",
    "remove it: the library chooses the attention": "flash_attention flash_attn sdp_attention xformers_attention"
    " attn_implementation eager_attention use_flash_attention_2 flash_attention_2 s2_attention",
    "remove it: kernels of other libraries are not used": "use_unsloth enable_liger_kernel use_liger_kernel"
    " liger_kernel torch_compile unsloth plugins",
    "remove it: one device is used, the best one there is": "deepspeed fsdp fsdp_config ddp_timeout local_rank"
    " device_map ddp use_cpu no_cuda device accelerator num_gpus world_size ddp_find_unused_parameters max_memory"
    " backend low_cpu_mem_usage",
    "remove it: a run has its own folder; choose its root with `--out`": "output_dir logging_dir overwrite_output_dir"
    " save_dir out_dir export_dir dataset_prepared_path overwrite_cache cache_dir dataset_dir",
    "remove it: every optimizer step is logged, in the run's events.jsonl": "logging_steps logging_strategy"
    " logging_first_step log_level plot_loss disable_tqdm",
    "remove it: nothing is sent anywhere": "report_to wandb_project wandb_entity wandb_run_id wandb_watch wandb_mode"
    " wandb_log_model push_to_hub hub_model_id hub_token hub_strategy mlflow_tracking_uri use_wandb swanlab_project"
    " comet_project_name tensorboard",
    "remove it: nothing is saved during training": "save_steps save_strategy save_total_limit saves_per_epoch"
    " save_only_model save_safetensors save_first_step checkpoints_per_epoch steps_per_checkpoint",
    "remove it: the model is measured before and after the training, by `evals`": "eval_steps eval_strategy"
    " evals_per_epoch evaluation_strategy eval_batch_size per_device_eval_batch_size do_eval eval_on_start"
    " early_stopping_patience early_stop load_best_model_at_end metric_for_best_model greater_is_better"
    " eval_table_size do_predict predict_with_generate steps_per_epoch",
    "remove it: what is done is kept, the same command goes on from there": "resume_from_checkpoint"
    " auto_resume_from_checkpoints resume",
    "remove it: a training starts from the base": "lora_model_dir adapter_name_or_path pretrained_adapter_weights"
    " create_new_adapter",
    "remove it: a run trains, as its steps say": "do_train inference_mode task_type strict debug",
    "remove it: it is always `none`": "bias",
    "remove it: this is another method than `lora`": "loftq_config loraplus_lr_ratio use_galore galore_config"
    " pissa_init use_badam relora_steps lora_plus use_qalora corda_config eva_config",
    "remove it: rows are read in this process": "preprocessing_num_workers dataset_num_proc dataset_processes"
    " dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataloader_drop_last streaming"
    " remove_unused_columns shuffle_merged_datasets",
    "remove it: values are tried by `--set`, one run each": "hyperopt",
    "remove it: write what belongs to it under `data`": "preprocessing defaults split",
    "remove it: preferences are not learnt by `sft`": "beta pref_beta pref_loss dpo_beta reference_model ref_model",
})  # fmt: skip

# Kinds: the kind → its names elsewhere. What else to write stands after a comma.
KINDS: tuple[tuple[str, str, str], ...] = (
    ("lora", "peft lora+ loraplus low_rank LoRA LORA", ""),
    ("lora", "qlora QLoRA QLORA", "with `quantization: nf4` beside it"),
    ("lora", "dora DoRA", "with `args: {use_dora: true}`"),
    ("lora", "rslora", "with `args: {use_rslora: true}`"),
    ("none", "full full_finetuning full_finetune full_fine_tuning fft freeze null None off false no", ""),
    ("none", "fp16 bf16 fp32 float16 bfloat16 16bit 32bit", "the type of the weights is `model.dtype`"),
    ("nf4", "bnb_4bit 4bit 4-bit bnb bitsandbytes qlora int4 load_in_4bit NF4 4 normal_float4 fp4 bnb-4bit", ""),
    ("nf4", "8bit 8-bit int8 bnb_8bit llm_int8 load_in_8bit 8", "or `none`: eight bits are not offered"),
    ("nf4", "gptq awq aqlm hqq eetq", "over the model's unquantized weights"),
    ("jsonl", "json ndjson jsonlines json_lines JSONL", "one object a line"),
    ("csv", "tsv", 'with `delimiter: "\\t"`'),
    ("csv", "CSV text txt excel xlsx", ""),
    ("local", "path dir folder directory disk file", "with `path:`"),
    ("hub", "hf huggingface hf_hub transformers remote", "with `repo:`"),
    ("local", "hub hf huggingface hf_hub transformers remote", "with the `path:` of a downloaded folder"),
    ("pypi", "wheel pip package embedded", ""),
    ("sft", "finetune fine_tune fine-tune finetuning supervised SFT SFTTrainer sft_trainer instruct lora full", ""),
    ("chat", "chatml alpaca sharegpt messages chat_template instruct instruction conversation template jinja", ""),
    ("heldout", "held_out held-out holdout test testset accuracy exact_match macro_f1 eval evaluation", ""),
    ("threshold", "min minimum at_least at_most greater_than bound limit score metric", ""),
    ("adapter", "lora peft safetensors", ""),
    ("transformers", "hf auto huggingface automodel unsloth vllm", ""),
)
