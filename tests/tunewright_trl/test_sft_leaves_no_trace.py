"""What the libraries change is recorded or undone, and nothing of them is printed or sent."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.base_trainer
from tiny_training import adapted, llama, tokenizer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tunewright.errors import WorkFailed
from tunewright.parts.base import Argument
from tunewright_trl.held import HeldSft
from tunewright_trl.observed import Found, _dtypes, substituted


def by_name(outcome: Any) -> dict[str, Any]:
    return {found.what: found for found in outcome.substituted}


def trace(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Everything of a model and its tokenizer that is not a weight."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {
        "attributes": {name: id(value) for name, value in vars(base).items()} | {"outer": set(vars(model))},
        "config": base.config.to_dict(),
        "generation": base.generation_config.to_dict(),
        "training": {name: module.training for name, module in model.named_modules()},
        "checkpointing": base.is_activation_checkpointing,
        "adapters": set(getattr(model, "peft_config", ())),
        "hooks": sum(len(module._forward_hooks) for module in model.modules()),
        "gradients": [name for name, p in model.named_parameters() if p.grad is not None],
        "tokenizer": tokenizer.special_tokens_map,
    }


@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("make", [adapted, llama], ids=["adapter", "full"])
def test_model_and_tokenizer_are_left_as_they_were(train: Any, make: Any, kind: str) -> None:
    model = make().eval()
    before = trace(model, tokenizer().native)
    done = train(kind, model, checkpointing=kind == "sft")
    assert trace(model, done.job.tokenizer.native) == before


@pytest.mark.parametrize(
    "args",
    [{"label_smoothing_factor": 0.1}, {"loss_type": "dft"}, {"adam_beta2": 0.9}],
    ids=lambda args: next(iter(args)),
)
def test_further_arguments_take_effect_and_leave_no_trace(train: Any, args: dict[str, Any]) -> None:
    model = adapted()
    before = trace(model, tokenizer().native)
    changed, plain = train(model=model, epochs=2, args=args), train(epochs=2)
    assert any(not torch.equal(changed.weights[name], weight) for name, weight in plain.weights.items())
    assert trace(model, changed.job.tokenizer.native) == before
    assert changed.outcome.substituted == ()


def test_they_are_left_as_they_were_when_a_training_fails(train: Any) -> None:
    model = adapted()
    before = trace(model, tokenizer().native)
    with pytest.raises(WorkFailed):
        train(model=model, max_steps=1, warmup_steps=1)
    assert trace(model, tokenizer().native) == before


def test_the_optimizers_memory_is_given_back(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = []
    create = HeldSft.create_optimizer

    def spy(self: Any, *args: Any) -> Any:
        made = create(self, *args)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(HeldSft, "create_optimizer", spy)
    train()
    assert [reference() for reference in alive] == [None]


def test_nothing_is_printed_or_written(train: Any, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    model = adapted()
    recwarn.clear(), capfd.readouterr()
    done = train(model=model, optimizer="paged_adamw_8bit", checkpointing=True)
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)
    assert not list(Path(done.job.scratch).rglob("*"))


def test_no_telemetry_is_sent(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("telemetry was sent")

    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", refuse)
    monkeypatch.delenv("CI", raising=False)
    train()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_an_optimizer_that_does_what_is_asked_is_no_substitution(train: Any) -> None:
    assert train().outcome.substituted == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU's substitutions")
@pytest.mark.parametrize("name", ["paged_adamw_8bit", "paged_adamw_32bit"])
def test_a_paged_optimizer_is_not_paged_on_the_cpu(train: Any, name: str) -> None:
    found = by_name(train(optimizer=name).outcome)["optimizer"]
    assert (found.asked, found.got) == (name, name.removeprefix("paged_"))
    assert "CPU" in found.why


def test_small_tensors_keep_states_of_32_bits(train: Any) -> None:
    model = adapted(llama(hidden_size=32, intermediate_size=1024))
    found = by_name(train(model=model, optimizer="adamw_8bit").outcome)["optimizer states"]
    assert found.asked == "8 bits"
    assert found.got == "32 bits for 22 of 28 tensors"  # the MLP's wide sides have 4 x 1024 elements
    assert "4096" in found.why


def test_an_argument_that_the_library_changed_is_found(train: Any) -> None:
    done = train()

    class Trainer:
        model, optimizer = done.job.model, object()

        class args:
            optim = type("Name", (), {"value": "adamw_torch"})
            mixed_precision = "no"
            learning_rate = 1e-3

    (found,) = substituted({"learning_rate": Argument(2e-4, "spec", "learning_rate")}, Trainer, Found({}))
    assert (found.what, found.asked, found.got) == ("learning_rate", 2e-4, 1e-3)


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_dropout_beside_a_reference_is_told_to_be_off(train: Any, kind: str) -> None:
    model = adapted(dropout=0.3)
    (found,) = train(kind, model).outcome.substituted
    assert (found.what, found.asked, found.got) == ("dropout", 0.3, 0.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}
    assert not train(model=adapted(dropout=0.3)).outcome.substituted


def test_weights_cast_to_another_dtype_are_found() -> None:
    (found,) = _dtypes(
        {"a": "float32", "b": "float32", "c": "float32"}, {"a": "bfloat16", "b": "bfloat16", "c": "float32"}
    )
    assert (found.asked, found.got) == ("float32", "bfloat16")


def test_adapters_of_a_4_bit_base_keep_the_dtype_that_was_chosen_for_them(train: Any, tmp_path: Path) -> None:
    llama(hidden_size=64).save_pretrained(tmp_path / "base")
    scheme = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=scheme, dtype=torch.bfloat16)
    done = train(model=adapted(base))
    assert {weight.dtype for weight in done.weights.values()} == {torch.float32}  # TRL casts them to bf16
    assert "dtype of trained weights" not in by_name(done.outcome)


def test_the_effective_arguments_are_plain_data_without_paths(train: Any) -> None:
    done = train(epochs=2)
    seen = done.outcome.observed
    assert seen["num_train_epochs"] == 2
    assert seen["optim"] == "adamw_torch_fused"
    assert seen["seed"] == seen["data_seed"] == 0
    assert str(done.job.scratch) not in json.dumps(seen)
