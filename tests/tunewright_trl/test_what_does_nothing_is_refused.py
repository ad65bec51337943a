"""An option that no weight depends on is a finding; beside the right other option it is none, and changes weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import trainer

from tunewright.parts.base import Facts

CONSTANT = {"schedule": "constant"}
IDLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # kind, options, what does nothing beside them, what makes it count
    ("sft", CONSTANT, {"warmup_steps": 2}, {"schedule": "constant_with_warmup"}),
    ("sft", {"optimizer": "sgd"}, {"args": {"adam_beta1": 0.5}}, {"optimizer": "adamw_torch"}),
    ("sft", {"optimizer": "sgd"}, {"args": {"adam_beta2": 0.5}}, {"optimizer": "adamw_8bit"}),
    ("sft", {"optimizer": "adafactor"}, {"args": {"adam_beta2": 0.5}}, {"optimizer": "lion_32bit"}),
    ("sft", {"optimizer": "lion_8bit"}, {"args": {"adam_epsilon": 0.5}}, {"optimizer": "adamw_8bit"}),
    ("sft", {"optimizer": "adamw_torch"}, {"args": {"optim_args": "momentum=0.9"}}, {"optimizer": "sgd"}),
    ("sft", {"optimizer": "adafactor"}, {"args": {"optim_args": "momentum=0.9"}}, {"optimizer": "sgd"}),
    ("dpo", {"loss": "sft"}, {"beta": 0.9}, {"loss": "sigmoid"}),
    ("dpo", {"loss": "ipo"}, {"args": {"discopop_tau": 0.9}}, {"loss": "discopop"}),
]


def weights(train: Any, kind: str, **options: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = train(kind, max_steps=3, **options).weights
    return found


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


def findings(kind: str, **options: Any) -> list[tuple[str, str]]:
    return [(found.code, found.field) for found in trainer(kind, options).check(Facts())]


@pytest.mark.parametrize(("kind", "options", "nothing", "counts"), IDLE, ids=str)
def test_it_is_refused_where_it_changes_nothing_and_taken_where_it_does(train, kind, options, nothing, counts):
    (name,) = nothing.get("args", nothing)
    field = f"args.{name}" if "args" in nothing else name
    assert findings(kind, **options, **nothing) == [("argument-unused", field)]
    assert alike(weights(train, kind, **options), weights(train, kind, **options, **nothing))
    assert findings(kind, **{**options, **counts}, **nothing) == []
    assert not alike(
        weights(train, kind, **{**options, **counts}), weights(train, kind, **{**options, **counts}, **nothing)
    )


def test_arguments_of_recomputation_need_recomputation():
    args = {"activation_checkpointing_kwargs": {"use_reentrant": True}}
    assert findings("sft", args=args) == [("argument-unused", "args.activation_checkpointing_kwargs")]
    assert findings("sft", args=args, checkpointing=True) == []


def test_a_training_is_as_long_as_one_of_two_options_says():
    for kind in ("sft", "dpo", "kto", "cpt"):
        assert findings(kind, epochs=3, max_steps=7) == [("argument-unused", "epochs")]
        assert findings(kind, epochs=3) == findings(kind, max_steps=7) == findings(kind, epochs=3, max_steps=-1) == []


def test_the_coefficient_of_a_divergence_needs_it():
    args = {"f_alpha_divergence_coef": 0.7}
    assert findings("dpo", args=args) == [("argument-unused", "args.f_alpha_divergence_coef")]
    assert findings("dpo", args={**args, "f_divergence_type": "alpha_divergence"}) == []


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        ({"args": {"lr_scheduler_kwargs": {"num_cycle": 2}}, "schedule": "cosine"}, "unknown-argument",
         "args.lr_scheduler_kwargs.num_cycle"),
        ({"args": {"lr_scheduler_kwargs": {"power": 2}}}, "unknown-argument", "args.lr_scheduler_kwargs.power"),
        ({"schedule": "polynomial", "learning_rate": 5e-8}, "bad-value", "learning_rate"),
        ({"optimizer": "sgd", "args": {"optim_args": "momentum"}}, "bad-value", "args.optim_args"),
        ({"optimizer": "sgd", "args": {"optim_args": "lr=3"}}, "bad-value", "args.optim_args"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_end_in_an_error_after_minutes_is_said_at_once(options, code, field):
    assert findings("sft", **options) == [(code, field)]


@pytest.mark.parametrize("schedule", ["cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"])
def test_every_schedules_own_arguments_count(train, schedule):
    from tunewright_trl.idle import OF_SCHEDULE

    value = {"num_cycles": 3, "lr_end": 1e-3, "power": 3, "timescale": 2}
    for name in OF_SCHEDULE[schedule]:
        args = {"lr_scheduler_kwargs": {name: value[name]}}
        assert findings("sft", schedule=schedule, args=args) == []
        more = {"schedule": schedule, "warmup_steps": 1 if schedule == "inverse_sqrt" else 0}
        assert not alike(weights(train, "sft", **more), weights(train, "sft", **more, args=args))
