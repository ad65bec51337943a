"""`plan` puts the adapter on the base's modules without numbers: what PEFT refuses in a run is said at its line."""

from __future__ import annotations

import json

import pytest
import torch
from peft_work import moved, save, wrap
from test_every_tuner_of_peft_is_known import SIZED

from tiny import backend, tiny_tokenizer
from tunewright.host import Host
from tunewright.parts import Facts
from tunewright.parts.base import BadOption
from tunewright.pipeline.fit import misfits
from tunewright.pipeline.plan import make_plan
from tunewright.resolve import resolve
from tunewright.spec.problems import SpecError
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora
from tunewright_peft.tuner import Tuner
from tunewright_peft.tuners import TUNERS
from tunewright_transformers.loader import TransformersLoader

QWEN = {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}  # fmt: skip
LARGE = {"C3A": {"block_size": 128}, "VBLORA": {"vector_length": 256, "num_vectors": 16}}
"""What a width of 3,584 needs where a width of 64 needs other sizes."""


def outline(**changes):
    return backend(TransformersLoader).outline({**QWEN, **changes})


def peft(kind, **args):
    return backend(Tuner, args={"peft_type": kind, **args})


def test_an_outline_has_all_modules_and_no_numbers(tiny_folder):
    model = outline()
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_615_616_512
    assert all(parameter.is_meta for parameter in model.parameters())
    config = json.loads((tiny_folder() / "config.json").read_text())
    real = {name: tensor.shape for name, tensor in wrap(tiny_folder()).get_base_model().named_parameters()}
    found = {name: tensor.shape for name, tensor in backend(TransformersLoader).outline(config).named_parameters()}
    assert found.items() <= {name.replace(".base_layer", ""): shape for name, shape in real.items()}.items()


@pytest.mark.parametrize("config", [{}, {"model_type": "nobodys"}, {"model_type": "llama", "hidden_size": "wide"},
                                    {"model_type": "vit"}, {"model_type": ["llama"]}])  # fmt: skip
def test_of_a_config_that_is_none_of_the_librarys_nothing_is_said(config):
    assert backend(TransformersLoader).outline(config) is None


@pytest.mark.parametrize("kind", TUNERS)
def test_what_works_is_not_refused_on_a_large_base(kind):
    peft(kind, **{**SIZED.get(kind, {}), **LARGE.get(kind, {})}).fit(outline())


@pytest.mark.parametrize("options", [
    {}, {"init": "pissa"}, {"init": "olora"}, {"init": "loftq"}, {"init": "orthogonal"}, {"init": "gaussian"},
    {"dora": True}, {"modules_to_save": ["lm_head"]}, {"targets": ["embed_tokens"]}, {"rank_pattern": {"q_proj": 4}},
    {"args": {"layers_to_transform": [3]}}, {"args": {"trainable_token_indices": [4]}}, {"args": {"lora_bias": True}},
])  # fmt: skip
def test_what_works_of_lora_is_not_refused(options):
    backend(Lora, r=8, **options).fit(outline())


def test_ia3_is_not_refused():
    backend(Ia3).fit(outline())
    backend(Ia3).fit(outline(model_type="gpt2", n_embd=64, n_head=4))


def test_trying_draws_no_number():
    """Else whether a plan was made in the same process would change what a training begins with."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    peft("LOHA").fit(outline())
    peft("VERA", r=8).fit(outline())
    backend(Lora, init="gaussian").fit(outline())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "args", "code", "field", "says"),
    [
        ("LOHA", {"r": -3}, "bad-value", "args.r", "positive integer"),
        ("LOHA", {"r": 0}, "bad-value", "args.r", "positive integer"),
        ("VERA", {"r": -1}, "bad-value", "args.r", "negative dimension -1"),
        ("OFT", {"oft_block_size": -4}, "bad-value", "args.oft_block_size", "negative dimension"),
        ("C3A", {"block_size": 7}, "bad-value", "args.block_size", "a factor of the output size"),
        ("VBLORA", {"vector_length": 7}, "bad-value", "args.vector_length", "must be divisible"),
        ("VERA", {"vera_dropout": 2.0}, "bad-value", "args", "dropout probability"),
        ("LOHA", {"target_modules": ["embed_tokens"]}, "bad-value", "args", "Embedding"),
        ("LOHA", {"r": -3, "target_modules": ["embed_tokens"]}, "bad-value", "args", "Embedding"),
        ("VERA", {"layers_to_transform": [99]}, "bad-value", "args", "No layers"),
        ("VERA", {"target_modules": ["q_proj", "nope"]}, "unknown-target", "args.target_modules", "`nope`"),
        ("FROD", {"target_modules": ["q_proj", "nope"]}, "unknown-target", "args.target_modules", "`nope`"),
        ("VERA", {"target_modules": ".*nope"}, "unknown-target", "args.target_modules", "`.*nope`"),
        ("VERA", {"target_modules": "[*"}, "bad-value", "args.target_modules", "no regular expression"),
        ("LOHA", {"modules_to_save": ["nope"]}, "unknown-target", "args.modules_to_save", "`nope`"),
    ],
)
def test_what_peft_refuses_is_said_at_its_key(kind, args, code, field, says):
    with pytest.raises(BadOption) as caught:
        peft(kind, **args).fit(outline())
    found = caught.value.finding
    assert (found.code, found.field) == (code, field)
    assert says in found.message and found.suggestion


def test_all_linear_is_a_word_of_pefts_and_no_expression():
    peft("LOHA", target_modules="all-linear").fit(outline())


@pytest.mark.parametrize("method", [Lora, Ia3])
def test_targets_of_any_family_are_known(method):
    with pytest.raises(BadOption, match="the model has no module `q_proj`") as caught:
        backend(method, targets=["q_proj"]).fit(outline(model_type="gpt2", n_embd=64, n_head=4))
    assert "c_attn" in caught.value.finding.suggestion


def test_of_a_known_family_targets_are_checked_without_any_library():
    named = {"target_modules": ["layers.3.self_attn.q_proj", "nope", "input_layernorm", "lm_head"]}
    (finding,) = peft("VERA", **named).check(Facts(model_config={"model_type": "llama"}))
    assert (finding.code, finding.field) == ("unknown-target", "args.target_modules")
    assert "`nope`" in finding.message and "q_proj" in finding.suggestion
    assert not list(peft("VERA", **named).check(Facts(model_config={"model_type": "gpt2"})))
    assert not list(peft("VERA", target_modules=".*nope").check(Facts(model_config={"model_type": "llama"})))


@pytest.mark.parametrize("index", [-3, 320])
def test_tokens_that_the_base_does_not_have_are_said(index):
    method, known = peft("TRAINABLE_TOKENS", token_indices=[0, index, 319]), Facts(model_config={"vocab_size": 320})
    (finding,) = method.check(known)
    assert (finding.code, finding.field) == ("bad-value", "args.token_indices")
    assert f"no token {index}" in finding.message


def test_a_parent_of_another_rank_is_said_too(tiny_folder, tmp_path):
    method = backend(Lora, r=4, alpha=8)
    parent = save(method, moved(wrap(tiny_folder(), method)), tmp_path / "parent")
    outlined = backend(TransformersLoader).outline(json.loads((tiny_folder() / "config.json").read_text()))
    backend(Lora, r=4, alpha=8, parent=str(parent)).fit(outlined)
    with pytest.raises(BadOption, match="has `r: 4`, and this adapter `r: 8`") as caught:
        backend(Lora, r=8, alpha=8, parent=str(parent)).fit(outlined)
    assert caught.value.finding.field == "parent"


# --- in a spec


def spec(folder, adapter, config):
    (folder / "base").mkdir()
    tiny_tokenizer().save_pretrained(folder / "base")
    (folder / "base" / "config.json").write_text(json.dumps(config))
    (folder / "base" / "model.safetensors").write_bytes(b"none is read")
    (folder / "train.csv").write_text("text,queue\nlamp,repair\nbill,billing\n")
    text = f"""
        apiVersion: tunewright/v1
        name: tried
        model: {{source: {{kind: local, path: base}}}}
        adapter: {adapter}
        data:
          format: {{kind: chat, prompt: "{{text}}", completion: "{{queue}}"}}
          train: [{{kind: csv, path: train.csv}}]
        trainer: {{kind: sft, max_length: 64}}
    """
    (folder / "client.yaml").write_text("\n".join(line[8:] for line in text.strip("\n").splitlines()))
    return resolve(folder / "client.yaml", Host())


GPT = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 320}
LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
BAD = [
    (GPT, "{kind: peft, args: {peft_type: VERA, r: 8, target_modules: [c_attn, nope]}}", "[c_attn", "the model has no"),
    (LLAMA, "{kind: peft, args: {peft_type: LOHA, r: -3}}", "-3", "`r` should be a positive integer"),
    (GPT, "{kind: lora, targets: [q_proj]}", "[q_proj]", "the model has no module `q_proj`"),
]


@pytest.mark.parametrize(("config", "adapter", "at", "says"), BAD)
def test_the_finding_stands_at_its_line(tmp_path, config, adapter, at, says):
    resolved = spec(tmp_path, adapter, config)
    (problem,) = misfits(resolved, resolved.facts.model_config)
    line = (tmp_path / "client.yaml").read_text().splitlines()[problem.position.line - 1]
    assert line[problem.position.column - 1 :].startswith(at)
    assert says in problem.message and problem.suggestion


@pytest.mark.parametrize(("config", "adapter", "at", "says"), BAD)
def test_plan_refuses_it(tmp_path, config, adapter, at, says):
    with pytest.raises(SpecError, match=says):
        make_plan(spec(tmp_path, adapter, config))
