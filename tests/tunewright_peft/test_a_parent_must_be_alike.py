"""A training goes on from what was saved only where the spec says the same adapter; the error names both."""

import json

import pytest
from peft_work import load, moved, save, wrap

from tiny import backend
from tunewright.errors import Refused
from tunewright.parts.base import BadOption
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora
from tunewright_peft.tuner import Tuner
from tunewright_transformers.full import FullTuning

VERA = {"peft_type": "VERA", "r": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def parent(tiny_folder, tmp_path):
    method = backend(Lora, r=4, alpha=8)
    return save(method, moved(wrap(tiny_folder(), method)), tmp_path / "parent")


def refused(method, folder, parent):
    with pytest.raises(BadOption) as error:
        method.wrap(load(folder, use="train"), parent)
    assert error.value.finding.field == "parent"
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"r": 16, "alpha": 8}, ("`r: 4`", "`r: 16`")),
        ({"r": 4, "alpha": 16}, ("`alpha: 8`", "`alpha: 16`")),
        ({"r": 4, "alpha": 8, "targets": "attention"}, ("targets", "up_proj")),
        ({"r": 4, "alpha": 8, "rslora": True}, ("`rslora: False`", "`rslora: True`")),
        ({"r": 4, "alpha": 8, "dora": True}, ("dora",)),
        ({"r": 4, "alpha": 8, "rank_pattern": {"q_proj": 2}}, ("rank_pattern",)),
        ({"r": 4, "alpha": 8, "modules_to_save": ["model.norm"]}, ("modules_to_save",)),
        ({"r": 4, "alpha": 8, "args": {"layers_to_transform": [0]}}, ("args.layers_to_transform",)),
        ({"r": 4, "alpha": 8, "init": "pissa"}, ("`r: 4`", "`r: 8`", "twice its rank")),
    ],
)
def test_another_shape_is_said_with_both_values(tiny_folder, parent, options, says):
    message = refused(backend(Lora, **options), tiny_folder(), parent)
    assert all(text in message for text in says), message


@pytest.mark.parametrize(("method", "says"), [
    (lambda: backend(Ia3), ("LORA", "IA3")),
    (lambda: backend(Tuner, args=VERA), ("LORA", "VERA")),
    (lambda: backend(FullTuning), ("is an adapter",)),
])  # fmt: skip
def test_another_method_is_said_by_name(tiny_folder, parent, method, says):
    message = refused(method(), tiny_folder(), parent)
    assert all(text in message for text in says), message


@pytest.mark.parametrize("options", [
    {"dropout": 0.25}, {"init": "gaussian"}, {"dtype": "bf16"}, {"targets": [f"{n}_proj" for n in ("q", "k", "v", "o",
     "gate", "up", "down")]},
])  # fmt: skip
def test_what_only_the_training_depends_on_may_differ(tiny_folder, parent, options):
    method = backend(Lora, r=4, alpha=8, **options)
    model = method.wrap(load(tiny_folder(), use="train"), parent)
    assert model.peft_config["default"].lora_dropout == options.get("dropout", 0), "the spec's holds, not the parent's"
    assert any(p.requires_grad for p in model.parameters())


def test_targets_are_compared_by_the_modules_that_they_reach(tiny_folder, tmp_path):
    method = backend(Lora, r=4, targets=["q_proj"])
    saved = save(method, wrap(tiny_folder(), method), tmp_path / "saved")
    same = backend(Lora, r=4, targets=["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"])
    assert same.digest(same.wrap(load(tiny_folder(), use="train"), saved))
    path = saved / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": r".*\.self_attn\.q_proj"}))
    method.wrap(load(tiny_folder(), use="train"), saved)
    refused(backend(Lora, r=4, targets=["layers.0.self_attn.q_proj"]), tiny_folder(), saved)


@pytest.mark.parametrize("make", [lambda: backend(Ia3), lambda: backend(Tuner, args=VERA)], ids=["ia3", "vera"])
def test_other_methods_go_on_as_well(tiny_folder, tmp_path, make):
    method = make()
    model = moved(wrap(tiny_folder(), method))
    saved = save(method, model, tmp_path / "saved")
    again = method.wrap(load(tiny_folder(), use="train"), saved)
    assert method.digest(again) == method.digest(model)
    assert method.count(again) == method.count(model)


def test_a_tuner_of_another_size_is_said(tiny_folder, tmp_path):
    method = backend(Tuner, args=VERA)
    saved = save(method, wrap(tiny_folder(), method), tmp_path / "saved")
    message = refused(backend(Tuner, args={**VERA, "r": 4}), tiny_folder(), saved)
    assert "`args.r: 8`" in message
    assert "`args.r: 4`" in message


@pytest.mark.parametrize("start", ["pissa", "olora", "loftq", "corda", "pissa_niter_4"])
def test_an_adapter_for_a_base_that_peft_changed_is_refused(tiny_folder, parent, start):
    """Put on the base as it is, it would answer otherwise than it was trained to."""
    path = parent / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": start}))
    method = backend(Lora, r=4, alpha=8)
    for use in (lambda: method.attach(load(tiny_folder()), parent),
                lambda: method.wrap(load(tiny_folder(), use="train"), parent)):  # fmt: skip
        with pytest.raises(Refused, match="path_initial_model_for_weight_conversion"):
            use()
