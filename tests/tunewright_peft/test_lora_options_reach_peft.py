"""What the spec says of an adapter is what PEFT does, and what cannot be is said before anything is fetched."""

from dataclasses import fields

import pytest
import torch
from pydantic import ValidationError

from tiny import FAMILIES, backend
from tunewright.parts import Cap, Facts, To
from tunewright.parts.base import BadOption
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft import arguments
from tunewright_peft.lora import Lora
from tunewright_peft.targets import KNOWN
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

LLAMA = Facts(model_config={"model_type": "llama"})


def load(folder, kind=NoQuantizer, dtype="bf16"):
    return backend(TransformersLoader).model(folder, backend(kind), dtype, "train")


def adapted(model):
    return {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}


ATTENTION, MLP = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("targets", "expected"), [("attention", ATTENTION), ("mlp", MLP), ("attention+mlp", ATTENTION | MLP)]
)
def test_roles_stand_for_a_familys_projections(tiny_folder, family, targets, expected):
    method = backend(Lora, targets=targets)
    model = method.wrap(load(tiny_folder(family)), None)
    assert adapted(model) == expected
    derived = method.derive(Facts(model_config={"model_type": family}))["target_modules"]
    assert derived.value == sorted(expected), "the plan shows what is done"
    assert (derived.set_by, derived.field) == ("spec", "targets")


@pytest.mark.parametrize("model_type", sorted(KNOWN))
def test_the_table_is_what_the_library_builds(model_type):
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunewright_peft.targets import projections_of

    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = AutoConfig.for_model(model_type, hidden_size=8, num_hidden_layers=1, vocab_size=8, pad_token_id=0, **heads)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert projections_of(model) == {role: sorted(names) for role, names in KNOWN[model_type].items()}


def test_a_list_names_modules_as_peft_matches_them(tiny_folder):
    model = backend(Lora, targets=["q_proj", "layers.1.mlp.up_proj"]).wrap(load(tiny_folder()), None)
    names = sorted(name for name, _ in model.named_parameters() if "lora_A" in name)
    assert len(names) == 3
    assert sum("up_proj" in name for name in names) == 1


def test_a_target_that_names_nothing_is_said_with_what_there_is(tiny_folder):
    method = backend(Lora, targets=["q_proj", "query"])
    (finding,) = method.check(LLAMA)
    assert (finding.code, finding.field) == ("unknown-target", "targets")
    assert "`query`" in finding.message
    assert "q_proj" in finding.suggestion
    with pytest.raises(BadOption) as error:  # where the family is not known before fetching
        method.wrap(load(tiny_folder()), None)
    assert error.value.finding.code == "unknown-target"
    assert "embed_tokens, gate_proj, k_proj" in str(error.value)
    assert not list(method.check(Facts(model_config={"model_type": "unheard-of"})))
    assert "target_modules" not in method.derive(Facts())


def test_a_layer_that_is_not_there_is_found_when_it_is_wrapped(tiny_folder):
    method = backend(Lora, targets=["layers.7.self_attn.q_proj"])
    assert not list(method.check(LLAMA))
    with pytest.raises(BadOption, match=r"layers\.7"):
        method.wrap(load(tiny_folder()), None)


def test_options_and_further_arguments_reach_the_library(tiny_folder):
    method = backend(Lora, r=4, alpha=10, dropout=0.25, rslora=True, args={"layers_to_transform": [0]})
    assert not list(method.check(LLAMA))
    config = method.wrap(load(tiny_folder()), None).peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 10, 0.25)
    assert (config.use_rslora, config.layers_to_transform) == (True, [0])
    assert (config.task_type, config.bias) == ("CAUSAL_LM", "none")
    assert type(config.lora_alpha) is int, "as the library writes it, and others read it"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"target_modules": ["q_proj"]}, "argument-taken"),
        ({"inference_mode": True}, "argument-taken"),
        ({"layers_to_transfrom": [0]}, "unknown-argument"),
        ({"init_lora_weights": "pissa"}, "argument-taken"),
        ({"loftq_config": {}}, "unsupported-argument"),
        ({"megatron_core": "canary"}, "unsupported-argument"),
    ],
)
def test_arguments_that_cannot_be_are_said_at_their_own_place(args, code):
    (finding,) = backend(Lora, args=args).check(Facts())
    assert finding.code == code
    assert finding.field == f"args.{next(iter(args))}"
    assert finding.at_key


def test_a_near_miss_is_suggested():
    (finding,) = backend(Lora, args={"layers_to_transfrom": [0]}).check(Facts())
    assert finding.suggestion == "did you mean `layers_to_transform`?"


def test_what_the_library_refuses_is_said_in_its_words(tiny_folder):
    with pytest.raises(BadOption, match="LoraConfig refuses") as error:
        backend(Lora, args={"layers_pattern": "h"}).wrap(load(tiny_folder()), None)
    assert error.value.finding.field == "args"


def test_the_table_of_arguments_is_the_librarys():
    from peft import LoraConfig

    groups = (arguments.PASSED, arguments.NAMED, arguments.TAKEN, arguments.UNSAFE)
    assert sum(map(len, groups)) == len(frozenset().union(*groups)), "no argument stands in two groups"
    assert frozenset().union(*groups) == {field.name for field in fields(LoraConfig)}
    marks = [mark for info in Lora.Options.model_fields.values() for mark in info.metadata]
    options = {mark.argument for mark in marks if isinstance(mark, To)}
    assert options | set(Lora.fixed) == arguments.NAMED


@pytest.mark.parametrize(
    "bad",
    [
        {"r": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": "all"}, {"targets": []}, {"init": "eva"},
        {"init": "pissa_niter_0"}, {"rank_pattern": {"q_proj": 0}}, {"alpha_pattern": {"q_proj": 1.5}},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError):
        backend(Lora, **bad)


@pytest.mark.parametrize(
    ("kind", "dtype", "asked", "expected"),
    [
        (NoQuantizer, "bf16", "auto", torch.bfloat16),
        (NoQuantizer, "bf16", "fp32", torch.float32),
        (NoQuantizer, "fp32", "auto", torch.float32),
        (NoQuantizer, "fp16", "auto", torch.float32),
        (NoQuantizer, "fp32", "bf16", torch.bfloat16),
        (Nf4, "bf16", "auto", torch.bfloat16),
        (Nf4, "fp32", "auto", torch.float32),
        (Nf4, "bf16", "fp32", torch.float32),
    ],
)
def test_the_adapters_type(tiny_folder, kind, dtype, asked, expected):
    model = backend(Lora, dtype=asked).wrap(load(tiny_folder(), kind, dtype), None)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {expected}


def test_only_the_adapter_trains_and_is_counted(tiny_folder):
    method = backend(Lora, r=4)
    model = method.wrap(load(tiny_folder()), None)
    trainable, total = method.count(model)
    assert trainable == sum(p.numel() for n, p in model.named_parameters() if "lora_" in n) > 0
    assert trainable == 2 * sum(4 * (a + b) for a, b in [(64, 64)] * 2 + [(64, 32)] * 2 + [(64, 128)] * 3)
    assert total == trainable + sum(p.numel() for p in load(tiny_folder()).parameters())


@pytest.mark.parametrize(
    ("options", "vllm"),
    [
        ({}, True),
        ({"r": 512}, True),
        ({"r": 1024}, False),
        ({"rank_pattern": {"q_proj": 1024}}, False),
        ({"rslora": True}, True),
        ({"dora": True}, False),
        ({"modules_to_save": ["lm_head"]}, False),
        ({"args": {"lora_bias": True}}, False),
        ({"args": {"use_qalora": True}}, False),
    ],
)
def test_what_vllm_refuses_is_not_offered(options, vllm):
    offered = backend(Lora, **options).offers()
    assert (Cap.VLLM in offered) is vllm
    assert {Cap.ADAPTS, Cap.LORA} <= offered


def test_equal_seeds_give_equal_adapters(tiny_folder):
    loader, method = backend(TransformersLoader), backend(Lora)
    digests = []
    for seed in (1, 1, 2):
        loader.seed(seed)
        digests.append(method.digest(method.wrap(load(tiny_folder()), None)))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("init", "passed"),
    [("default", True), ("gaussian", "gaussian"), ("orthogonal", "orthogonal"), ("pissa", True), ("loftq", True)],
)
def test_the_plan_shows_how_the_library_begins(init, passed):
    argument = backend(Lora, init=init).derive(Facts())["init_lora_weights"]
    assert (argument.value, argument.set_by, argument.field) == (passed, "spec", "init")
    assert bool(argument.why) is (init in ("pissa", "loftq"))
    assert backend(Lora).derive(Facts())["init_lora_weights"].set_by == "tunewright"


@pytest.mark.parametrize("init", ["default", "gaussian", "orthogonal"])
def test_a_start_is_another_start(tiny_folder, init):
    made = {}
    for name in (init, "default"):
        backend(TransformersLoader).seed(0)
        made[name] = backend(Lora, init=name).wrap(load(tiny_folder()), None)
    first, plain = (
        next(p for n, p in model.named_parameters() if "lora_A" in n) for model in (made[init], made["default"])
    )
    assert torch.equal(first, plain) is (init == "default")


@pytest.mark.parametrize(("kind", "dtype"), [(NoQuantizer, "bf16"), (Nf4, "bf16"), (NoQuantizer, "fp32")])
def test_doras_lengths_stay_in_fp32(tiny_folder, kind, dtype):
    """In bf16 a step of a thousandth of a length would be lost: they would never move."""
    model = backend(Lora, dora=True).wrap(load(tiny_folder(), kind, dtype), None)
    lengths = {name: p for name, p in model.named_parameters() if "magnitude" in name}
    assert {p.dtype for p in lengths.values()} == {torch.float32}
    matrices = {p.dtype for name, p in model.named_parameters() if p.requires_grad and name not in lengths}
    assert matrices == {torch.float32 if dtype == "fp32" else torch.bfloat16}
    ids = torch.arange(3, 20)[None]
    model.train()(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lengths.values())
