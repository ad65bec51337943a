"""(IA)³: three vectors a block, where the paper has them, by family or by name."""

import json

import pytest
import torch
from peft_work import apart, load, logits, moved, save, wrap

from tiny import FAMILIES, backend, tiny_model
from tunewright.parts import Cap, Facts
from tunewright.parts.base import BadOption
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.ia3 import Ia3

LLAMA = Facts(model_config={"model_type": "llama"})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_papers_layers_are_those_of_every_family(tiny_folder, family):
    method = backend(Ia3)
    model = wrap(tiny_folder(family), method)
    config = model.peft_config["default"]
    derived = method.derive(Facts(model_config={"model_type": family}))
    assert sorted(config.target_modules) == derived["target_modules"].value == ["down_proj", "k_proj", "v_proj"]
    assert sorted(config.feedforward_modules) == derived["feedforward_modules"].value == ["down_proj"]
    assert method.count(model)[0] == 2 * (32 + 32 + 128), "keys and values are 32 wide, the MLP holds 128"
    assert apart(model, load(tiny_folder(family))) < 1e-6, "it begins at ones"


def test_names_replace_the_papers(tiny_folder):
    method = backend(Ia3, targets=["q_proj", "up_proj"], feedforward=[], modules_to_save=["model.norm"])
    config = wrap(tiny_folder(), method).peft_config["default"]
    assert (set(config.target_modules), set(config.feedforward_modules)) == ({"q_proj", "up_proj"}, set())
    assert config.modules_to_save == ["model.norm"]
    assert method.derive(LLAMA)["feedforward_modules"].set_by == "spec"
    config = wrap(tiny_folder(), backend(Ia3, targets=["q_proj", "up_proj"])).peft_config["default"]
    assert set(config.feedforward_modules) == {"up_proj"}


@pytest.mark.parametrize(("kind", "dtype"), [(None, "fp32"), (None, "bf16"), (Nf4, "bf16"), (Nf4, "fp32")])
def test_it_is_saved_and_attached_whole(tiny_folder, tmp_path, kind, dtype):
    method, packing = backend(Ia3), {} if kind is None else {"kind": kind}
    model = moved(wrap(tiny_folder(), method, dtype=dtype, **packing))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}, "bf16 loses steps near one"
    saved = save(method, model, tmp_path / "saved")
    attached = method.attach(load(tiny_folder(), dtype=dtype, **packing), saved)
    assert method.digest(attached) == method.digest(model)
    assert torch.equal(logits(attached), logits(model))
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["feedforward_modules"] == ["down_proj"]


def test_what_cannot_be_is_said_before_anything_is_fetched(tiny_folder):
    (finding,) = backend(Ia3, targets=["query"], feedforward=[]).check(LLAMA)
    assert (finding.code, finding.field) == ("unknown-target", "targets")
    assert "k_proj" in finding.suggestion
    (finding,) = backend(Ia3, feedforward=["up_proj"]).check(LLAMA)
    assert (finding.code, finding.field) == ("bad-value", "feedforward")
    with pytest.raises(BadOption, match="`query`"):
        wrap(tiny_folder(), backend(Ia3, targets=["query"]))


def test_another_architecture_takes_pefts_own_table_or_asks(tmp_path):
    gpt2 = _gpt2(tmp_path)
    config = wrap(gpt2, backend(Ia3)).peft_config["default"]
    assert (set(config.target_modules), set(config.feedforward_modules)) == ({"c_attn", "mlp.c_proj"}, {"mlp.c_proj"})
    model = load(gpt2)
    model.config.model_type = "unheard-of"
    with pytest.raises(BadOption, match="unheard-of") as error:
        backend(Ia3).wrap(model, None)
    assert "c_attn" in str(error.value)


def _gpt2(folder):
    from transformers import GPT2Config, GPT2LMHeadModel

    tiny_model(folder)
    (folder / "generation_config.json").unlink()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2))
    model.save_pretrained(folder)
    return folder


def test_it_merges_and_no_server_loads_it():
    assert backend(Ia3).offers() == {Cap.ADAPTS, Cap.MERGES, Cap.BY_TOKEN}
