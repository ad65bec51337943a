"""Each option of a trainer reaches the library's argument that it names, or does what it says; a module needs no torch
to be read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, get_args

import pytest
import torch
import trl
from pydantic import ValidationError
from tiny_training import ROWS, adapted, llama, trainer

from tunewright.parts import Cap
from tunewright.parts.base import Argument, Facts, To
from tunewright_trl.arguments import ELSEWHERE, IDLE, PASSED, UNSUPPORTED
from tunewright_trl.options import READ, Optimizer

KINDS = ("sft", "cpt", "dpo", "kto")
# field: the library's argument, and a value that is not the default
LOOP: dict[str, tuple[str, Any]] = {
    "epochs": ("num_train_epochs", 3),
    "max_steps": ("max_steps", 7),
    "batch_size": ("per_device_train_batch_size", 4),
    "accumulation": ("gradient_accumulation_steps", 2),
    "schedule": ("lr_scheduler_type", "cosine"),
    "warmup_steps": ("warmup_steps", 0.1),
    "optimizer": ("optim", "paged_adamw_8bit"),
    "weight_decay": ("weight_decay", 0.1),
    "max_grad_norm": ("max_grad_norm", 0.5),
    "neftune_alpha": ("neftune_noise_alpha", 5.0),
    "checkpointing": ("activation_checkpointing", True),
}
FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    "sft": LOOP,
    "cpt": LOOP,
    "dpo": LOOP | {"beta": ("beta", 0.3), "loss": ("loss_type", "ipo"), "loss_weights": ("loss_weights", [0.5]),
                   "label_smoothing": ("label_smoothing", 0.1)},
    "kto": LOOP | {"beta": ("beta", 0.3), "loss": ("loss_type", "apo_zero_unpaired"),
                   "desirable_weight": ("desirable_weight", 2.0), "undesirable_weight": ("undesirable_weight", 2.0)},
}  # fmt: skip
EVERY_FIELD = [(kind, field) for kind, fields in FIELDS.items() for field in fields]


def config(kind: str) -> str:
    return str(trainer(kind, {}).accepts.partition(":")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_tried(kind: str) -> None:
    fields = trainer(kind, {}).Options.model_fields
    passed = {name for name, info in fields.items() if any(isinstance(mark, To) for mark in info.metadata)}
    assert passed == set(FIELDS[kind])
    ours = {
        "kind",
        "max_length",
        "checkpoint_every",
        "checkpoint_minutes",
        *READ,
        *(["packing"] if kind == "cpt" else []),
        *(["order"] if kind in ("sft", "dpo") else []),
    }
    assert set(fields) == passed | ours


@pytest.mark.parametrize(("kind", "field"), EVERY_FIELD)
def test_an_option_changes_its_argument_and_no_other(kind: str, field: str) -> None:
    argument, value = FIELDS[kind][field]
    before, after = trainer(kind, {}).arguments(), trainer(kind, {field: value}).arguments()
    assert {name for name in after if after[name] != before[name]} == {argument}
    assert after[argument] == Argument(value, "spec", field)


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_of_the_library_has_one_place(kind: str) -> None:
    """The table is the library's own: a new version's arguments must be sorted before it is allowed."""
    name = config(kind)
    places = [PASSED[name], IDLE[name], UNSUPPORTED, set(ELSEWHERE), set(trainer(kind, {}).arguments())]
    names = {field.name for field in dataclasses.fields(getattr(trl, name))}
    assert set().union(*places) == names
    assert sum(map(len, places)) == len(names)


@pytest.mark.parametrize(
    ("kind", "args"),
    [("sft", {"loss_type": "dft"}), ("cpt", {"adam_beta1": 0.8}), ("dpo", {"ld_alpha": 0.5}),
     ("kto", {"precompute_ref_batch_size": 2})],
)  # fmt: skip
def test_args_pass_through(kind: str, args: dict[str, Any]) -> None:
    backend, ((name, value),) = trainer(kind, {"args": args}), args.items()
    assert backend.arguments()[name] == Argument(value, "spec", "args")
    assert list(backend.check(Facts())) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "code", "suggestion"),
    [
        ("dataset_num_proc", "argument-unused", ""),
        ("eval_delay", "argument-unused", ""),
        ("eval_steps", "argument-taken", "set `eval_every` instead"),
        ("fsdp", "unsupported-argument", ""),
        ("seed", "argument-taken", "set `seed` at the top of the spec instead"),
        ("gradient_checkpointing", "argument-taken", "set `checkpointing` instead"),
        ("learning_rate", "argument-taken", "set `learning_rate` instead"),
        ("adam_beta_2", "unknown-argument", "adam_beta2"),
    ],
)
def test_an_argument_that_cannot_be_passed_is_a_finding(kind: str, name: str, code: str, suggestion: str) -> None:
    (finding,) = trainer(kind, {"args": {name: 1}}).check(Facts())
    assert (finding.code, finding.field) == (code, f"args.{name}")
    assert suggestion in finding.suggestion


@pytest.mark.parametrize(
    ("kind", "name"),
    [("sft", "optim"), ("sft", "packing"), ("cpt", "packing"), ("dpo", "beta"), ("dpo", "precompute_ref_log_probs"),
     ("kto", "train_sampling_strategy"), ("kto", "num_train_epochs")],
)  # fmt: skip
def test_what_an_option_or_the_plugin_sets_is_left_to_the_core(kind: str, name: str) -> None:
    assert list(trainer(kind, {"args": {name: 1}}).check(Facts())) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0}, {"learning_rate": None}, {"epochs": 0}, {"max_steps": 0}, {"warmup_steps": -1},
     {"optimizer": "adam"}, {"patience": 0}, {"eval_every": 0}, {"keep": "first"}, {"neftune_alpha": -1},
     {"loraplus_lr_ratio": 0}],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        trainer(kind, wrong)


@pytest.mark.parametrize("kind", ["sft", "cpt"])
def test_the_validation_loss_is_the_mean_over_tokens_whatever_the_batch(train: Any, kind: str) -> None:
    """Else the batch size would have a say in which weights are the best."""
    held = ROWS[kind](7, seed=3)
    assert len({row.supervised for row in held}) > 1
    (one,), (other,) = (
        train(kind, max_steps=1, learning_rate=1e-9, batch_size=size, validation=held).outcome.validation
        for size in (1, 7)
    )
    assert one[1] == pytest.approx(other[1], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", [{"eval_every": 2}, {"patience": 1}, {"keep": "best"}], ids=str)
def test_what_looks_at_validation_rows_needs_some(kind: str, option: dict[str, Any]) -> None:
    backend = trainer(kind, option)
    (finding,) = backend.check(Facts())
    assert (finding.code, finding.field) == ("needs-validation", next(iter(option)))
    assert list(backend.check(Facts(validation=True))) == []


RATES = {"sft": (2e-4, 2e-5), "cpt": (2e-4, 2e-5), "dpo": (1e-5, 1e-6), "kto": (1e-5, 1e-6)}
ADAPTER, FULL = (Facts(offers={"adapter": frozenset(caps)}) for caps in ({Cap.ADAPTS}, {Cap.MERGES}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_learning_rate_follows_the_method_and_says_from_where(kind: str) -> None:
    adapter, full = (trainer(kind, {}).derive(facts)["learning_rate"] for facts in (ADAPTER, FULL))
    assert (adapter.value, full.value) == pytest.approx(RATES[kind])
    assert (adapter.set_by, full.set_by) == ("tunewright", "tunewright")
    assert "ten times" in adapter.why
    assert "LoRA Without Regret" in adapter.why
    assert full.why == f"TRL's default for {'DPO' if kind == 'dpo' else 'KTO' if kind == 'kto' else 'SFT'}"
    (field,) = (field for field in dataclasses.fields(getattr(trl, config(kind))) if field.name == "learning_rate")
    assert full.value == pytest.approx(field.default)
    for facts in (ADAPTER, FULL):
        written = trainer(kind, {"learning_rate": 3e-4}).derive(facts)["learning_rate"]
        assert written == Argument(3e-4, "spec", "learning_rate")


@pytest.mark.parametrize("kind", KINDS)
def test_validation_rows_are_looked_at_once_an_epoch_or_as_often_as_asked(kind: str) -> None:
    def derived(facts: Facts, **options: Any) -> Mapping[str, Any]:
        return {name: argument.value for name, argument in trainer(kind, options).derive(facts).items()}

    assert derived(Facts())["eval_strategy"] == "no"
    once = derived(Facts(validation=True), batch_size=4)
    assert (once["eval_strategy"], once["per_device_eval_batch_size"]) == ("epoch", 4)
    often = derived(Facts(validation=True), eval_every=5)
    assert (often["eval_strategy"], often["eval_steps"]) == ("steps", 5)


# what the options do in a training


def fading(kind: str, rows: int = 4) -> dict[str, Any]:
    """A training on a few rows with far too high a rate: on other rows it soon does worse."""
    rate = 0.2 if kind in ("sft", "cpt") else 0.05
    return {"rows": ROWS[kind](rows), "validation": ROWS[kind](6, seed=5), "eval_every": 1, "learning_rate": rate,
            "schedule": "constant", "epochs": 8}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_patience_ends_a_training_early_and_the_best_weights_are_kept(train: Any, kind: str) -> None:
    done = train(kind, patience=2, **fading(kind))
    looks = dict(done.outcome.validation)
    assert list(looks) == list(range(1, done.outcome.steps + 1))
    assert done.outcome.steps < 8
    assert done.outcome.best_step == min(looks, key=lambda step: looks[step])
    assert done.outcome.steps == done.outcome.best_step + 2
    shorter = train(kind, max_steps=done.outcome.best_step, **fading(kind))
    assert all(torch.equal(done.weights[name], weight) for name, weight in shorter.weights.items())
    told = [(event["optimizer_step"], event["loss"]) for event in done.events if event["event"] == "validation"]
    assert told == list(done.outcome.validation)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_weights_are_kept_where_the_spec_says_so(train: Any, kind: str) -> None:
    settings = fading(kind)
    last = train(kind, keep="last", **settings)
    assert (last.outcome.best_step, last.outcome.steps) == (None, 8)
    alone = train(kind, **{name: value for name, value in settings.items() if name not in ("validation", "eval_every")})
    assert all(torch.equal(alone.weights[name], weight) for name, weight in last.weights.items())


def test_looking_at_validation_rows_changes_nothing_that_is_learnt(train: Any) -> None:
    held = {"validation": ROWS["sft"](6, seed=5), "keep": "last"}
    every, once, never = train(epochs=2, eval_every=1, **held), train(epochs=2, **held), train(epochs=2)
    assert [step for step, _ in once.outcome.validation] == [3, 6]
    for other in (every, once):
        assert all(torch.equal(never.weights[name], weight) for name, weight in other.weights.items())


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_lora_plus_gives_b_a_multiple_of_the_rate(train: Any, kind: str) -> None:
    """By one step of plain gradient descent, in which a weight moves by its rate times its gradient."""
    began = {name: p.detach().clone() for name, p in adapted().named_parameters() if p.requires_grad}
    plain, plus = (
        train(kind, optimizer="sgd", max_steps=1, max_grad_norm=0.0, schedule="constant", **more)
        for more in ({}, {"loraplus_lr_ratio": 16.0})
    )
    for name, before in began.items():
        moved, more = plain.weights[name] - before, plus.weights[name] - before
        assert moved.any()
        torch.testing.assert_close(more, moved * (16 if "lora_B" in name else 1), rtol=1e-2, atol=1e-6)
    assert plus.steps[0]["learning_rate"] == plain.steps[0]["learning_rate"] == 1e-2


def test_lora_plus_needs_an_adapter_of_a_and_b() -> None:
    (need,) = trainer("sft", {"loraplus_lr_ratio": 16.0}).needs()
    assert (need.part, need.cap, need.code) == ("adapter", Cap.LORA, "needs-lora")
    assert list(trainer("sft", {}).needs()) == []


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_optimizer_trains(train: Any, name: str) -> None:
    rate = 1e-3 if "lion" in name else 1e-2
    done = train(epochs=6, optimizer=name, learning_rate=rate if name != "sgd" else 0.5)
    assert done.outcome.losses[-1][1] < done.outcome.losses[0][1]
    assert done.outcome.observed["optim"] == name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lion_32bit", "paged_lion_8bit", "paged_adamw_32bit", "paged_adamw_8bit"])
def test_lion_and_paged_optimizers_train_whatever_the_rows(train: Any, kind: str, name: str) -> None:
    before = {name: p.detach().clone() for name, p in adapted().named_parameters() if p.requires_grad}
    done = train(kind, optimizer=name, max_steps=2)
    assert all(not torch.equal(done.weights[weight], value) for weight, value in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_noise_on_the_embeddings_is_in_training_only(train: Any, kind: str) -> None:
    """The first look at the validation rows comes after a step of next to nothing: it is as it is without noise."""
    held = {"validation": ROWS[kind](4, seed=5), "eval_every": 1, "max_steps": 1, "learning_rate": 1e-9}
    plain, noisy = train(kind, **held), train(kind, neftune_alpha=5.0, **held)
    assert noisy.outcome.losses != plain.outcome.losses
    assert noisy.outcome.validation[0][1] == pytest.approx(plain.outcome.validation[0][1], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_bounds_a_step(train: Any, kind: str) -> None:
    began = {name: p.detach().clone() for name, p in adapted().named_parameters() if p.requires_grad}

    def moved(norm: float) -> float:
        done = train(kind, optimizer="sgd", max_steps=1, learning_rate=1.0, schedule="constant", max_grad_norm=norm)
        return float(torch.cat([(done.weights[n] - w).flatten() for n, w in began.items()]).norm())

    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert moved(0.0) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_full_fine_tuning_trains_every_weight(train: Any, kind: str) -> None:
    before = {name: p.detach().clone() for name, p in llama().named_parameters()}
    done = train(kind, model=llama(), max_steps=2, learning_rate=1e-3)
    assert done.weights.keys() == before.keys()
    still = [name for name, weight in before.items() if torch.equal(done.weights[name], weight)]
    assert still == []


def test_reading_the_options_imports_nothing_heavy() -> None:
    code = """
import sys
from tunewright_trl import cpt, dpo, kto, sft
for backend in (cpt.Cpt, dpo.Dpo, kto.Kto, sft.Sft):
    backend(backend.Options(kind=backend.kind)).signature()
print(sorted({"torch", "transformers", "trl", "datasets", "peft"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
