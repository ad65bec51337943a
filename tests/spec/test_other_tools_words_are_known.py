"""Did you mean: the words of other tools lead to keys that exist, in a phrase that helps where they were written."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.host import Host
from tunewright.spec.document import parse
from tunewright.spec.model import LISTS, SINGLE, Data, Model, Package, Spec, Split, Stage
from tunewright.spec.suggest import LONGEST, MOST_SHOWN, did_you_mean
from tunewright.spec.words import BROUGHT, HERE, KEYS, KINDS, REMOVE

PARTS = {".".join(key): contract for contract, (key, _) in SINGLE.items()} | {
    ".".join(key): contract for contract, key in LISTS
}
SECTIONS = {
    "": Spec, "model": Model, "data": Data, "package": Package, "stages": Stage, "data.validation": Split,
    "data.test": Split,
}  # fmt: skip


@pytest.fixture(scope="module")
def host():
    found = Host()
    assert {fault.plugin for fault in found.faults} & set(FIRST_PARTY) == set()
    return found


def options(host, contract):
    """Every option of every first-party kind of a part, with the arguments that `args:` passes on."""
    from tunewright_peft.arguments import PASSED as TO_PEFT
    from tunewright_trl.arguments import PASSED as TO_TRL

    kinds = [kind for kind in host.kinds(contract) if host.table[f"{contract}/{kind}"].plugin in FIRST_PARTY]
    found = {name for kind in kinds for name in host.backend(contract, kind).Options.model_fields}
    passed = {"adapter": TO_PEFT, "trainer": frozenset().union(*TO_TRL.values())}.get(contract, ())
    return found | {f"args.{name}" for name in passed}


def exists(host, target):
    way, _, value = target.replace("[]", "").partition(": ")
    if value:
        validate(host, way, parse(target, "words", Path()).data[way])
    section, _, field = way.rpartition(".")
    if section in SECTIONS:
        return field in {info.alias or name for name, info in SECTIONS[section].model_fields.items()}
    part = next(part for part in sorted(PARTS, reverse=True) if way.startswith(f"{part}."))
    return way.removeprefix(f"{part}.") in options(host, PARTS[part])


def validate(host, way, value):
    """Raise unless the value can stand after the key: a kind with its options, a list of such, a split."""
    parts = value if isinstance(value, list) else [{"kind": value} if isinstance(value, str) else value]
    for part in parts:
        model = Split if part["kind"] == "split" else host.backend(PARTS[way], part["kind"]).Options
        model.model_validate(part)


def test_every_target_is_a_key_that_exists(host):
    targets = set(KEYS.values()) | {target for words in HERE.values() for target in words.values()}
    ways = {way for target in targets for way in target.split("|")}
    assert [way for way in sorted(ways) if not exists(host, way)] == []


def test_no_word_is_said_to_be_removed_where_it_is_an_option(host):
    for part, contract in PARTS.items():
        for word in options(host, contract):
            known_here = word in HERE.get(part, {}) or f"`{having(host, contract, word)}`" in REMOVE.get(word, "")
            assert word not in REMOVE or known_here, (part, word)
    assert not set(REMOVE) & set(KEYS)


def having(host, contract, option):
    """The one kind that has an option, which a sentence against it in the others must name."""
    kinds = host.kinds(contract)
    found = [kind for kind in kinds if option in host.backend(contract, kind).Options.model_fields]
    return found[0] if len(found) == 1 else ""


def test_what_a_sentence_tells_to_write_instead_is_an_option(host):
    options_of_all = {name for contract in PARTS.values() for name in options(host, contract)}
    known = options_of_all | {"evals", "data", "none", "trackers:", "adapter.parent", "--out", "--set"}
    kinds = {key.partition("/")[2] for key in host.table}
    for sentence in set(REMOVE.values()):
        for word in re.findall(r"`([^`]+)`", sentence):
            assert word in known | kinds, (word, sentence)


def test_every_kind_that_is_suggested_is_installed(host):
    kinds = {key.partition("/")[2] for key in host.table}
    assert {kind for kind, *_ in KINDS} <= kinds


def test_no_word_for_a_kind_is_a_kind_of_the_same_part(host):
    """It would never be read: a kind that is installed is no unknown word."""
    for contract in {key.partition("/")[0] for key in host.table}:
        kinds = set(host.kinds(contract))
        for kind, names, _ in (*KINDS, *BROUGHT):
            if kind in kinds and (contract, kind) != HUB_MAY_BE_BLOCKED:
                assert not kinds & set(names.split()), (contract, kind)


HUB_MAY_BE_BLOCKED = ("model_source", "local")


def test_a_word_has_one_meaning_at_a_place():
    """What `words` builds its tables from names no word twice."""
    import ast

    import tunewright.spec.words as module

    for call in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "_table":
            words = Counter(word for names in call.args[0].values for word in names.value.split())
            assert [word for word, times in words.items() if times > 1] == []


TOOLS = {
    "Axolotl": "base_model model_type tokenizer_type trust_remote_code load_in_8bit load_in_4bit lora_model_dir "
    "lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear lora_modules_to_save peft_use_dora "
    "sequence_len sample_packing pad_to_sequence_len wandb_project micro_batch_size gradient_accumulation_steps "
    "num_epochs optimizer lr_scheduler learning_rate train_on_inputs group_by_length bf16 fp16 tf32 "
    "gradient_checkpointing early_stopping_patience resume_from_checkpoint local_rank "
    "logging_steps xformers_attention flash_attention warmup_steps warmup_ratio evals_per_epoch saves_per_epoch "
    "debug deepspeed weight_decay fsdp fsdp_config "
    "special_tokens datasets val_set_size output_dir chat_template hub_model_id dataset_prepared_path "
    "neftune_noise_alpha max_grad_norm adam_beta2 rl save_steps save_total_limit eval_steps max_steps "
    "test_datasets rl_beta dpo_label_smoothing kto_desirable_weight kto_undesirable_weight load_best_model_at_end "
    "saves_per_epoch use_wandb wandb_entity wandb_watch wandb_log_model mlflow_tracking_uri mlflow_experiment_name "
    "loraplus_lr_ratio eval_sample_packing save_first_step metric_for_best_model",
    "LLaMA-Factory": "model_name_or_path adapter_name_or_path quantization_bit quantization_method double_quantization "
    "stage do_train finetuning_type lora_rank lora_alpha lora_dropout lora_target additional_target use_rslora "
    "use_dora pissa_init dataset eval_dataset dataset_dir template cutoff_len max_samples overwrite_cache "
    "val_size packing preprocessing_num_workers output_dir logging_steps save_steps plot_loss overwrite_output_dir "
    "per_device_train_batch_size gradient_accumulation_steps learning_rate num_train_epochs lr_scheduler_type "
    "warmup_ratio bf16 ddp_timeout per_device_eval_batch_size eval_strategy eval_steps flash_attn rope_scaling "
    "train_on_prompt mask_history enable_liger_kernel use_unsloth report_to loraplus_lr_ratio neftune_noise_alpha "
    "max_new_tokens predict_with_generate optim create_new_adapter ref_model pref_beta pref_loss pref_ftx "
    "kto_chosen_weight kto_rejected_weight use_swanlab swanlab_project",
    "Unsloth": "model_name max_seq_length dtype load_in_4bit load_in_8bit full_finetuning r target_modules lora_alpha "
    "lora_dropout bias use_gradient_checkpointing random_state use_rslora loftq_config dataset_text_field "
    "dataset_num_proc",
    "Ludwig": "model_type base_model input_features output_features preprocessing backend hyperopt defaults generation "
    "learning_rate_scheduler batch_size epochs train_steps early_stop gradient_accumulation_steps "
    "enable_gradient_checkpointing effective_batch_size evaluation_metric_not_there eval_batch_size "
    "pretrained_adapter_weights global_max_sequence_length",
    "PEFT": "peft_type task_type inference_mode r lora_alpha lora_dropout target_modules use_dora use_rslora bias "
    "modules_to_save layers_to_transform rank_pattern alpha_pattern init_lora_weights fan_in_fan_out loftq_config "
    "base_model_name_or_path exclude_modules",
    "bitsandbytes": "load_in_4bit load_in_8bit bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype "
    "llm_int8_skip_modules llm_int8_threshold llm_int8_has_fp16_weight llm_int8_enable_fp32_cpu_offload "
    "bnb_4bit_quant_storage quantization_config",
    "TRL and transformers": "max_length max_seq_length packing completion_only_loss assistant_only_loss beta loss_type "
    "dataset_text_field eos_token num_train_epochs max_steps per_device_train_batch_size optim lr_scheduler_type "
    "warmup_steps weight_decay adam_beta1 adam_epsilon max_grad_norm label_smoothing_factor logging_steps "
    "save_strategy save_total_limit load_best_model_at_end report_to push_to_hub seed data_seed bf16 "
    "fp16 torch_dtype device_map attn_implementation gradient_checkpointing gradient_checkpointing_kwargs "
    "remove_unused_columns run_name dataloader_num_workers use_cpu torch_compile group_by_length "
    "save_steps eval_steps eval_strategy logging_dir early_stopping_patience metric_for_best_model greater_is_better "
    "label_smoothing precompute_ref_log_probs desirable_weight undesirable_weight ref_model eval_dataset",
}
NEAREST = {"evaluation_metric_not_there"}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_config_of_another_tool_gets_an_answer_for_each_of_its_keys(tool):
    top = [info.alias or name for name, info in Spec.model_fields.items()]
    for word in TOOLS[tool].split():
        phrase = did_you_mean(word, top, "")
        if word not in top and word not in NEAREST:
            assert phrase.startswith(("here it is", "remove it: ")), (word, phrase)


TRAINER = ("kind", "epochs", "batch_size", "max_length", "learning_rate", "schedule", "args")


@pytest.mark.parametrize(
    ("word", "known", "place", "phrase"),
    [
        ("num_epochs", TRAINER, "trainer", "here it is called `epochs`"),
        ("num_epochs", ("name", "trainer"), "", "here it is called `trainer.epochs`"),
        ("num-epochs", TRAINER, "trainer", "here it is called `epochs`"),
        ("type", TRAINER, "trainer", "here it is called `kind`"),
        ("lora_r", TRAINER, "trainer", "here it is called `adapter.r`"),
        ("lora_r", ("kind", "r"), "adapter", "here it is called `r`"),
        ("lora_r", ("kind",), "adapter", "known: kind"),  # as `none` has it: no rank to speak of
        ("use_dora", ("kind", "r", "dora", "args"), "adapter", "here it is called `dora`"),
        ("init_lora_weights", ("kind", "r", "init"), "adapter", "here it is called `init`"),
        ("adapter_name_or_path", ("name", "adapter"), "", "here it is called `adapter.parent`"),
        ("neftune_noise_alpha", ("kind", "neftune_alpha"), "trainer", "here it is called `neftune_alpha`"),
        ("loss_type", ("kind", "beta", "loss"), "trainer", "here it is called `loss`"),
        ("loss_type", ("kind", "epochs"), "trainer", "here it is called `trainer.args.loss_type`"),
        ("save_steps", ("kind", "checkpoint_every"), "trainer", "here it is called `checkpoint_every`"),
        ("early_stopping_patience", ("name", "trainer"), "", "here it is called `trainer.patience`"),
        ("val_set_size", ("name",), "", "here it is written `data.validation: {kind: split, fraction: 0.1}`"),
        ("eval_dataset", ("name",), "", "here it is called `data.validation`"),
        ("ratio", ("kind", "fraction", "group", "time"), "data.validation", "here it is called `fraction`"),
        ("load_in_4bit", ("kind",), "quantization", "here it is written `quantization: nf4`"),
        ("load_in_8bit", ("kind", "double_quant"), "quantization", "here it is written `quantization: int8`"),
        ("llm_int8_threshold", ("kind", "threshold", "skip"), "quantization", "here it is called `threshold`"),
        ("threshold", ("kind", "double_quant", "skip"), "quantization", "known: double_quant, kind, skip"),
        ("bnb_4bit_quant_type", ("kind", "double_quant"), "quantization", "here it is called `kind`"),
        ("epoch", ("name", "trainer"), "", "here it is called `trainer.epochs`"),
        ("learnin_rate", ("name", "trainer"), "", "here it is called `trainer.learning_rate`"),
        (
            "max_samples",
            ("train", "test", "format"),
            "data",
            "here it is called `sample`, in the entries of `data.train`",
        ),
        ("file", ("kind", "path"), "data.test", "here it is called `path`"),
        ("threshold", ("kind", "metric", "at_least"), "gates", "here it is called `at_least`"),
        ("wandb_project", TRAINER, "trainer", "here it is called `project`, in the entries of `trackers`"),
        ("use_wandb", ("name",), "", "here it is written `trackers: [{kind: wandb}]`"),
        ("push_to_hub", TRAINER, "trainer", "remove it: nothing is uploaded"),
        ("sample_packing", ("name",), "", "remove it: only `cpt` packs rows, and does so by default"),
        ("packing", TRAINER, "trainer", "remove it: only `cpt` packs rows, and does so by default"),
        ("qlora", ("lora", "none"), None, "here it is called `lora`, with `quantization: nf4` beside it"),
        ("qlora", ("nf4", "none"), None, "here it is called `nf4`"),
        ("full", ("lora", "none"), None, "here it is called `none`"),
        ("freeze", ("lora", "none"), None, "here it is called `none`"),
        ("bnb_4bit", ("nf4", "none"), None, "here it is called `nf4`"),
        ("FP4", ("fp4", "nf4", "none"), None, "here it is called `fp4`"),
        ("8bit", ("int8", "nf4", "none"), None, "here it is called `int8`"),
        ("load_in_8bit", ("int8", "nf4", "none"), None, "here it is called `int8`"),
        ("ndjson", ("csv", "json", "jsonl"), None, "here it is called `jsonl`, one object a line"),
        ("sqlite", ("csv", "sql"), None, "here it is called `sql`, with `path:` and `query:`"),
        (
            "hf",
            ("csv", "datasets"),
            None,
            "here it is called `datasets`, with the `path:` of a saved folder: nothing is fetched",
        ),
        ("pt", ("cpt", "dpo", "kto", "sft"), None, "here it is called `cpt`"),
        ("orpo", ("dpo", "sft"), None, "a plugin's to bring: `tunewright plugins new NAME --part trainer`"),
        ("num_epochs", TRAINER, "stages.trainer", "here it is called `epochs`"),
        ("file", ("kind", "path"), "stages.data.train", "here it is called `path`"),
        ("file", ("kind", "path"), "data.validation", "here it is called `path`"),
        ("file", ("kind", "path"), "evals.test", "here it is called `path`"),
        ("ratio", ("kind", "fraction"), "stages.data.validation", "here it is called `fraction`"),
        ("ipo", ("cpt", "dpo", "kto", "sft"), None, "here it is called `dpo`, with `loss: ipo`"),
        ("dpo", ("chat", "preference"), None, "here it is called `preference`"),
        ("dora", ("lora", "none"), None, "here it is called `lora`, with `dora: true`"),
        ("vera", ("lora", "peft"), None, "here it is called `peft`, with its type in `args`, as `{peft_type: VERA}`"),
        ("train.csv", ("csv", "jsonl"), None, "write `{kind: csv, path: train.csv}`"),
        ("org/name", ("hub", "local"), None, "write `{kind: hub, repo: org/name}`"),
        ("../my-model", ("hub", "local"), None, "write `{kind: local, path: ../my-model}`"),
        ("hf", ("local", "pypi"), None, "here it is called `local`, with the `path:` of a downloaded folder"),
        ("base_model", ("kind", "repo", "revision"), "model.source", "here it is called `repo`"),
        ("base_model", ("kind", "path"), "model.source", "here it is called `path`"),
        ("dataset", ("text", "label"), None, "known: label, text"),  # a column, not a key
        ("x" * 100_000, TRAINER, "trainer", f"known: {', '.join(sorted(TRAINER))}"),
        ("zzz", (), None, ""),
    ],
)
def test_a_suggestion_helps_where_the_word_was_written(word, known, place, phrase):
    assert did_you_mean(word, known, place) == phrase


def test_the_known_words_are_listed_within_a_line():
    known = [f"option_number_{number}" for number in range(500)]
    phrase = did_you_mean("zzz", known)
    assert len(phrase) < MOST_SHOWN + 40
    assert phrase.endswith(" more")
    assert len(did_you_mean("zzz", ["w" * 10 * LONGEST, "v"])) < 20 * LONGEST


def test_a_good_spec_needs_no_words(fake_spec, fakes):
    """They are read where a word is unknown: `validate` has a tenth of a second."""
    import subprocess
    import sys

    program = (
        "import sys; from pathlib import Path; from tunewright.host import Host\n"
        "from tunewright.project import Project\n"
        f"Project.from_spec(Path(sys.argv[1]), host=Host(blocked={FIRST_PARTY})).resolve()\n"
        "sys.exit(bool({'tunewright.spec.words', 'difflib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(fake_spec)], check=False).returncode == 0
