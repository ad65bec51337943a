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
    "quantization: nf4": "load_in_4bit quantization_bit quantization_method bits quant bnb_config"
    " quantization_config bnb_4bit nf4",
    "quantization: fp4": "fp4 bnb_fp4",
    "quantization: int8": "load_in_8bit int8 llm_int8 bnb_8bit",
    "quantization.kind": "bnb_4bit_quant_type quant_type",
    "quantization.double_quant": "double_quant bnb_4bit_use_double_quant double_quantization use_double_quant"
    " use_nested_quant",
    "quantization.compute_dtype": "compute_dtype bnb_4bit_compute_dtype",
    "quantization.threshold": "llm_int8_threshold int8_threshold outlier_threshold",
    "quantization.skip": "skip llm_int8_skip_modules skip_modules modules_to_not_convert",
    "adapter.kind": "finetuning_type peft_type adapter_type peft_method",
    "adapter": "peft peft_config lora lora_config adapters use_peft use_lora",
    "adapter: none": "full_finetuning full_finetune full_fine_tuning",
    "adapter.r": "r rank lora_r lora_rank",
    "adapter.alpha": "alpha lora_alpha",
    "adapter.dropout": "dropout lora_dropout",
    "adapter.targets": "targets target_modules lora_target_modules lora_target lora_target_linear lora_targets"
    " lora_modules target_parameters_regex all_linear",
    "adapter.init": "init_lora_weights peft_init_lora_weights loftq_config pissa_init pissa_iter",
    "adapter.rslora": "rslora use_rslora peft_use_rslora",
    "adapter.dora": "dora use_dora peft_use_dora",
    "adapter.rank_pattern": "rank_pattern",
    "adapter.alpha_pattern": "alpha_pattern",
    "adapter.modules_to_save": "modules_to_save lora_modules_to_save additional_target",
    "adapter.feedforward": "feedforward feedforward_modules",
    "adapter.parent": "parent adapter_name_or_path lora_model_dir pretrained_adapter_weights",
    "adapter.args.layers_to_transform": "layers_to_transform peft_layers_to_transform",
    "adapter.args.layers_pattern": "layers_pattern peft_layers_pattern",
    "adapter.args.use_qalora": "use_qalora",
    "adapter.args.fan_in_fan_out": "fan_in_fan_out lora_fan_in_fan_out",
    "adapter.args.exclude_modules": "exclude_modules",
    "data.format": "format chat_template_config prompt_format conversation formatting_func formatting"
    " message_property_mappings",
    "data.format.messages": "messages field_messages",
    "data.format.text": "dataset_text_field text_column",
    "data.format.learn": "learn mask_history",
    "data.format.system": "system system_prompt system_message default_system task",
    "data.format.prompt": "prompt input_features prompt_template field_instruction field_input instruction_template"
    " user_prompt query",
    "data.format.completion": "completion output_features field_output response response_template",
    "data.format.chosen": "chosen field_chosen",
    "data.format.rejected": "rejected field_rejected",
    "data.train": "train dataset datasets train_dataset train_file train_data training_data training_file train_files"
    " data_path dataset_path pretraining_dataset dataset_name training_set",
    "data.validation": "validation test_datasets eval_dataset eval_data eval_file validation_file validation_data"
    " val_file",
    "data.validation: {kind: split, fraction: 0.1}": "val_set_size val_size validation_split_percentage"
    " eval_split_ratio",
    "data.test": "test test_file test_data",
    "data.test: {kind: split, fraction: 0.1}": "test_size",
    "data.train[].sample": "sample max_samples max_train_samples num_samples",
    "data.train[].limit": "limit",
    "data.train[].where": "where",
    "data.train[].weight": "weight interleave_probs mix_probs",
    "data.train[].path": "path data_files",
    "data.train[].split": "split dataset_split train_split",
    "stages": "stages phases trainings curriculum",
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
    "trainer.checkpoint_every": "checkpoint_every save_steps steps_per_checkpoint checkpoint_steps",
    "trainer.checkpoint_minutes": "checkpoint_minutes",
    "trainer.eval_every": "eval_every eval_steps",
    "trainer.patience": "patience early_stopping_patience early_stop early_stopping",
    "trainer.keep": "keep load_best_model_at_end",
    "trainer.neftune_alpha": "neftune_alpha neftune_noise_alpha noisy_embedding_alpha",
    "trainer.loraplus_lr_ratio": "loraplus_lr_ratio lora_plus",
    "trainer.beta": "beta pref_beta dpo_beta kto_beta rl_beta",
    "trainer.loss": "loss pref_loss dpo_loss",
    "trainer.loss|trainer.args.loss_type": "loss_type",
    "trainer.loss_weights": "loss_weights pref_ftx rpo_alpha",
    "trainer.label_smoothing|trainer.args.label_smoothing_factor": "label_smoothing",
    "trainer.label_smoothing": "dpo_label_smoothing",
    "trainer.desirable_weight": "desirable_weight kto_desirable_weight kto_chosen_weight",
    "trainer.undesirable_weight": "undesirable_weight kto_undesirable_weight kto_rejected_weight",
    "trainer.checkpointing": "checkpointing gradient_checkpointing activation_checkpointing use_gradient_checkpointing"
    " enable_gradient_checkpointing",
    "trainer.args.activation_checkpointing_kwargs": "gradient_checkpointing_kwargs activation_checkpointing_kwargs",
    "trainer.args.adam_beta1": "adam_beta1 beta1",
    "trainer.args.adam_beta2": "adam_beta2 beta2",
    "trainer.args.adam_epsilon": "adam_epsilon eps",
    "trainer.args.label_smoothing_factor": "label_smoothing_factor",
    "trainer.args.lr_scheduler_kwargs": "lr_scheduler_kwargs",
    "trainer.args.optim_args": "optim_args",
    "trainer.args.tf32": "tf32",
    "evals": "evaluation evaluations evaluators evaluator eval validation_metrics benchmarks",
    "evals[].metrics": "metrics metric eval_metrics compute_metrics",
    "evals[].max_new_tokens": "max_new_tokens generation generation_config eval_max_new_tokens max_tokens",
    "gates": "gate thresholds threshold checks acceptance",
    "gates[].at_least": "at_least",
    "gates[].at_most": "at_most",
    "exports": "export exporter exporters",
    "trackers": "tracker trackers report_to integrations loggers",
    "trackers: [{kind: tensorboard}]": "tensorboard use_tensorboard tensorboard_dir",
    "trackers: [{kind: mlflow}]": "mlflow use_mlflow",
    "trackers: [{kind: wandb}]": "wandb use_wandb",
    "trackers[].dir": "logging_dir",
    "trackers[].project": "wandb_project trackio_project",
    "trackers[].entity": "wandb_entity",
    "trackers[].mode": "wandb_mode",
    "trackers[].uri": "mlflow_tracking_uri",
    "trackers[].experiment": "mlflow_experiment_name",
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
    "quantization": _table({
        "quantization.compute_dtype": "dtype torch_dtype",
        "quantization.threshold": "threshold outliers",
        "quantization.group_size": "groupsize q_group_size w_group",
        "quantization.act_order": "desc_act actorder",
        "quantization.symmetric": "sym",
        "quantization.bits": "wbits w_bit num_bits",
        "quantization.calibration_rows": "nsamples n_samples num_samples num_calibration_samples calibration_samples",
    }),
    "adapter": _table({
        "adapter.targets": "modules layers target",
        "adapter.parent": "from path checkpoint continue",
        "adapter.init": "initialization init_weights start",
        "adapter.args.lora_bias": "lora_bias",
    }),
    "data": _table({
        "data.train": "path file files training rows",
        "data.validation": "eval evaluation valid val dev",
        "data.test": "testing holdout",
        "data.format": "template chat type kind columns",
    }),
    "data.format": _table({
        "data.format.prompt": "template user input instruction question text message",
        "data.format.completion": "output answer response label target assistant reply",
        "data.format.system": "system_prompt system_message instructions preamble",
    }),
    "data.validation": _table({
        "data.validation.fraction": "ratio share size percentage percent test_size val_size",
        "data.validation.group": "groups group_by by key",
        "data.validation.time": "date timestamp after sort_by",
    }),
    "data.test": _table({"data.test.fraction": "ratio share size percentage percent test_size"}),
    "data.train": _table({
        "data.train[].path": "file filename file_name data_files files source url location",
        "data.train[].url": "dsn connection connection_string database_url",
        "data.train[].query": "sql statement",
        "data.train[].rows": "root record_path",
        "data.train[].sample": "n num_rows rows subset size",
        "data.train[].limit": "head first max_rows take",
        "data.train[].where": "filter filters query select",
        "data.train[].weight": "ratio probability", "data.train[].epochs": "repeat oversample upsample times",
        "data.train[].delimiter": "sep separator delim",
        "data.train[].kind": "format ds_type file_type",
        "data.train[].on_error": "errors on_bad_lines skip_bad",
    }),
    "evals": _table({
        "evals[].metrics": "metric score scores",
        "evals[].max_length|evals[].max_new_tokens": "max_length max_len",
        "evals[].test": "data rows dataset datasets sources",
        "evals[].format": "template prompt_format",
    }),
    "stages": _table({
        "stages[].name": "id stage stage_name",
        "stages[].trainer": "train training method",
        "stages[].data": "dataset datasets rows",
        "stages[].adapter": "merge merge_adapter resume",
    }),
    "trackers": _table({
        "trackers[].dir": "path folder logdir log_dir",
        "trackers[].project": "project_name",
        "trackers[].experiment": "experiment_name",
        "trackers[].uri": "url host server base_url tracking_uri",
        "trackers[].api_key": "key wandb_api_key",
        "trackers[].entity": "team user",
    }),
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
    "remove it: only `cpt` packs rows, and does so by default": "packing sample_packing neat_packing multipack"
    " eval_sample_packing packing_strategy",
    "remove it: batches are padded, and padding bears no loss": "pad_to_sequence_len padding_free group_by_length",
    "remove it: the answers alone are learnt; `cpt` learns whole texts": "train_on_inputs completion_only_loss"
    " assistant_only_loss train_on_prompt roles_to_train train_on_eos train_on_responses_only",
    "remove it: the library chooses the attention": "flash_attention flash_attn sdp_attention xformers_attention"
    " attn_implementation eager_attention use_flash_attention_2 flash_attention_2 s2_attention",
    "remove it: on CUDA Liger's kernels run where they are installed": "enable_liger_kernel use_liger_kernel"
    " liger_kernel",
    "remove it: kernels of other libraries are not used": "use_unsloth torch_compile unsloth plugins",
    "remove it: the base's weights stay packed and frozen": "llm_int8_has_fp16_weight"
    " has_fp16_weights",
    "remove it: the library chooses how packed weights are kept": "bnb_4bit_quant_storage quant_storage",
    "remove it: one device is used, the best one there is": "deepspeed fsdp fsdp_config ddp_timeout local_rank"
    " llm_int8_enable_fp32_cpu_offload"
    " device_map ddp use_cpu no_cuda device accelerator num_gpus world_size ddp_find_unused_parameters max_memory"
    " backend low_cpu_mem_usage",
    "remove it: a run has its own folder; choose its root with `--out`": "output_dir overwrite_output_dir"
    " save_dir out_dir export_dir dataset_prepared_path overwrite_cache cache_dir dataset_dir",
    "remove it: every optimizer step is logged, in the run's events.jsonl": "logging_steps logging_strategy"
    " logging_first_step log_level plot_loss disable_tqdm",
    "remove it: nothing is uploaded": "push_to_hub hub_model_id hub_token hub_strategy hub_private_repo",
    "remove it: a tracker gets the numbers of a training, and nothing else": "wandb_watch wandb_log_model wandb_run_id"
    " hf_mlflow_log_artifacts",
    "remove it: `trackers:` takes tensorboard, mlflow, trackio and wandb": "use_swanlab swanlab_project use_comet"
    " comet_project_name comet_api_key",
    "remove it: checkpoints come by `checkpoint_every` steps and by `checkpoint_minutes`": "save_strategy"
    " saves_per_epoch checkpoints_per_epoch save_first_step",
    "remove it: the newest two checkpoints are kept until the training is done": "save_total_limit save_only_model"
    " save_safetensors",
    "remove it: validation rows are looked at once an epoch, or every `eval_every` steps": "eval_strategy"
    " evals_per_epoch evaluation_strategy do_eval eval_on_start",
    "remove it: `batch_size` holds for the validation rows as well": "eval_batch_size per_device_eval_batch_size",
    "remove it: the best weights are those of the lowest validation loss": "metric_for_best_model greater_is_better",
    "remove it: the model is measured before and after the training, by `evals`": "eval_table_size do_predict"
    " predict_with_generate",
    "remove it: an epoch is one pass over the rows": "steps_per_epoch",
    "remove it: what is done is kept, the same command goes on from there": "resume_from_checkpoint"
    " auto_resume_from_checkpoints resume",
    "remove it: without `adapter.parent` a fresh adapter is trained": "create_new_adapter",
    "remove it: a run trains, as its steps say": "do_train inference_mode task_type strict debug",
    "remove it: it is always `none`": "bias",
    "remove it: this is another method than `lora`": "use_galore galore_config use_badam relora_steps corda_config"
    " eva_config",
    "remove it: rows are read in this process": "preprocessing_num_workers dataset_num_proc dataset_processes"
    " dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataloader_drop_last streaming"
    " remove_unused_columns shuffle_merged_datasets",
    "remove it: values are tried by `--set`, one run each": "hyperopt",
    "remove it: write what belongs to it under `data`": "preprocessing defaults",
    "remove it: the reference is the model as it came to this training": "reference_model ref_model"
    " ref_model_adapters ref_model_sync_steps",
    "remove it: what the reference says is always worked out beforehand": "precompute_ref_log_probs",
})  # fmt: skip

# Kinds: the kind → its names elsewhere. What else to write stands after a comma.
KINDS: tuple[tuple[str, str, str], ...] = (
    ("lora", "low_rank LoRA LORA", ""),
    ("lora", "qlora QLoRA QLORA", "with `quantization: nf4` beside it"),
    ("lora", "dora DoRA", "with `dora: true`"),
    ("lora", "rslora rsLoRA", "with `rslora: true`"),
    ("lora", "lora+ loraplus LoRA+", "with `loraplus_lr_ratio: 16` in the trainer"),
    ("lora", "pissa PiSSA", "with `init: pissa`"),
    ("lora", "olora OLoRA", "with `init: olora`"),
    ("lora", "loftq LoftQ", "with `init: loftq`"),
    ("ia3", "IA3 (ia)3 ia_3", ""),
    (
        "peft",
        "vera VeRA loha LoHa lokr LoKr oft OFT vblora fourierft randlora hra shira miss road ln_tuning",
        "with its type in `args`, as `{peft_type: VERA}`",
    ),
    ("none", "full full_finetuning full_finetune full_fine_tuning fft freeze null None off false no", ""),
    ("none", "fp16 bf16 fp32 float16 bfloat16 16bit 32bit", "the type of the weights is `model.dtype`"),
    ("nf4", "bnb_4bit 4bit 4-bit bnb bitsandbytes qlora int4 load_in_4bit NF4 4 normal_float4 bnb-4bit", ""),
    ("fp4", "FP4 bnb_fp4 float4 e2m1", ""),
    ("int8", "8bit 8-bit INT8 bnb_8bit bnb-8bit llm_int8 llm.int8 LLM.int8 load_in_8bit 8 w8a8", ""),
    ("gptq", "GPTQ auto_gptq autogptq gptqmodel gptq_v2 marlin", ""),
    ("awq", "AWQ auto_awq autoawq llm_awq", ""),
    ("nf4", "aqlm hqq eetq", "over the model's unquantized weights"),
    ("jsonl", "ndjson jsonlines json_lines JSONL", "one object a line"),
    ("json", "JSON", ""),
    ("parquet", "pq Parquet", ""),
    ("datasets", "arrow dataset hf_dataset load_from_disk save_to_disk", "with the `path:` of a saved folder"),
    ("datasets", "hub hf huggingface load_dataset", "with the `path:` of a saved folder: nothing is fetched"),
    ("sql", "sqlite sqlite3 database db", "with `path:` and `query:`"),
    ("sql", "postgres postgresql mysql mariadb oracle mssql duckdb sqlalchemy", "with `url:` and `query:`"),
    ("csv", "tsv", 'with `delimiter: "\\t"`'),
    ("csv", "CSV text txt excel xlsx", ""),
    ("local", "path dir folder directory disk file", "with `path:`"),
    ("hub", "hf huggingface hf_hub transformers remote", "with `repo:`"),
    ("local", "hub hf huggingface hf_hub transformers remote", "with the `path:` of a downloaded folder"),
    ("pypi", "wheel pip package embedded", ""),
    ("sft", "finetune fine_tune fine-tune finetuning supervised SFT SFTTrainer sft_trainer instruct lora full", ""),
    ("cpt", "pt pretrain pretraining pre_training continued_pretraining continual_pretraining CPT clm causal_lm", ""),
    ("dpo", "DPO DPOTrainer dpo_trainer preference pref", ""),
    ("dpo", "ipo IPO", "with `loss: ipo`"),
    ("dpo", "hinge slic", "with `loss: hinge`"),
    ("kto", "KTO KTOTrainer kto_trainer", ""),
    ("chat", "chatml messages chat_template instruct instruction conversation template jinja", ""),
    ("alpaca", "Alpaca instruction_input_output alpaca_chat", ""),
    ("sharegpt", "ShareGPT vicuna conversations", ""),
    ("openai", "OpenAI oai openai_chat chat_completions", ""),
    ("ultrafeedback", "UltraFeedback ultrafeedback_binarized chatml.ultra llama3.ultra binarized", ""),
    ("preference", "preferences dpo pairs pairwise ranking chatml.intel chatml.argilla", ""),
    ("feedback", "kto thumbs ratings", ""),
    ("unpaired", "unpaired_preference kto_conversational", ""),
    ("completion", "prompt_completion input_output", ""),
    ("text", "raw raw_text plain plain_text pretrain corpus", ""),
    ("heldout", "held_out held-out holdout test testset accuracy exact_match macro_f1 eval evaluation", ""),
    ("perplexity", "ppl loss nll", ""),
    ("preferred", "preference preference_accuracy reward_accuracy pairwise pairs", ""),
    ("threshold", "min minimum at_least at_most greater_than bound limit score metric", ""),
    ("adapter", "lora peft safetensors", ""),
    ("tensorboard", "tb TensorBoard tensorboardX", ""),
    ("mlflow", "MLflow MLFlow", ""),
    ("wandb", "weights_and_biases weightsandbiases WandB W&B", ""),
    ("transformers", "hf auto huggingface automodel unsloth", ""),
)

# Kinds that none of ours is: a kind of the part, their names, and how they can be had.
BROUGHT: tuple[tuple[str, str, str], ...] = (
    (
        "sft",
        "orpo ORPO cpo simpo grpo GRPO rloo ppo PPO reward rm RewardTrainer prm online_dpo nash_md xpo gkd",
        "a plugin's to bring: `tunewright plugins new NAME --part trainer`",
    ),
    (
        "tensorboard",
        "comet comet_ml neptune swanlab clearml dvclive aim",
        "a plugin's to bring: `tunewright plugins new NAME --part tracker`",
    ),
)
