"""Roles and names reach the layers of any architecture that PEFT maps, and what reaches nothing is an error."""

import pytest
import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_MAP
from peft_work import load, wrap
from transformers import AutoConfig, AutoModelForCausalLM

from tiny import backend
from tunewright.parts.base import BadOption
from tunewright_peft.lora import Lora
from tunewright_peft.targets import adaptable, expand, projections_of, reached

DECODERS = (
    "bloom", "codegen", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox",
    "gptj", "llama", "llama4", "mistral", "mixtral", "mpt", "opt", "phi", "qwen2", "qwen3", "stablelm",
)  # fmt: skip
WITHOUT_MLP = ("llama4", "mixtral")  # their experts are no linear layers


def empty(model_type):
    config = AutoConfig.for_model(model_type)
    for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        if hasattr(config.get_text_config(), name):
            setattr(config.get_text_config(), name, 2)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("model_type", DECODERS)
def test_roles_hold_what_peft_adapts(model_type):
    model = empty(model_type)
    paths, roles = adaptable(model), projections_of(model)
    by_role = {role: set(reached(names, paths)) for role, names in roles.items()}
    assert set(reached(PEFT_MAP[model_type], paths)) <= by_role["attention"] | by_role["mlp"]
    assert not by_role["attention"] & by_role["mlp"], "no layer has two roles"
    assert by_role["attention"]
    assert bool(by_role["mlp"]) is (model_type not in WITHOUT_MLP)


def test_a_name_of_two_roles_is_told_apart():
    roles = projections_of(empty("gpt2"))
    assert roles == {"attention": ["attn.c_proj", "c_attn"], "mlp": ["c_fc", "mlp.c_proj"]}


def test_a_role_that_no_layer_has_is_said():
    """`attention+mlp` would else adapt the attention alone, in silence."""
    roles = projections_of(empty("mixtral"))
    assert expand("attention", roles)
    for targets in ("mlp", "attention+mlp"):
        with pytest.raises(BadOption, match="no linear layer of the role `mlp`") as error:
            expand(targets, roles)
        assert "q_proj" in str(error.value)


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"rank_pattern": {"query": 4}}, "rank_pattern", "q_proj"),
        ({"alpha_pattern": {"(q": 4}}, "alpha_pattern", ""),
        ({"targets": "attention", "alpha_pattern": {"up_proj": 4}}, "alpha_pattern", "q_proj"),
        ({"modules_to_save": ["head"]}, "modules_to_save", "lm_head"),
        ({"modules_to_save": ["norm"]}, "modules_to_save", "model.norm"),
    ],
)
def test_names_that_reach_nothing_or_more_are_refused(tiny_folder, options, field, says):
    with pytest.raises(BadOption) as error:
        wrap(tiny_folder(), **options)
    assert error.value.finding.field == field
    assert says in str(error.value)


def test_patterns_give_single_layers_ranks_and_alphas_of_their_own(tiny_folder):
    method = backend(
        Lora, r=4, alpha=8, rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6}, alpha_pattern={"k_proj": 1}
    )
    model = method.wrap(load(tiny_folder()), None)
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    found = {
        name.removeprefix("base_model.model.model."): (m.r["default"], m.scaling["default"])
        for name, m in layers.items()
    }
    assert found["layers.0.self_attn.q_proj"] == (2, 4.0)
    assert found["layers.1.mlp.up_proj"] == (6, 8 / 6)
    assert found["layers.0.mlp.up_proj"] == (4, 2.0)
    assert found["layers.0.self_attn.k_proj"] == (4, 0.25)
