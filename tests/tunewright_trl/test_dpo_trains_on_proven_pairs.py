"""DPO trains on our tokens, against what the model said when it came, by the loss that the spec names."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import trl.trainer.dpo_trainer
from peft import IA3Config, LoraConfig, VeraConfig, get_peft_model
from pydantic import ValidationError
from tiny_training import adapted, llama, pair_rows, references, trainer, what_is_read
from torch.nn.functional import logsigmoid

from tiny import backend, tiny_model
from tunewright.errors import BadInput
from tunewright.parts.base import Facts
from tunewright.parts.trainer import PairRow
from tunewright_bitsandbytes.fp4 import Fp4
from tunewright_bitsandbytes.int8 import Int8
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_trl import held
from tunewright_trl.dpo import SMOOTHED, DpoOptions, Loss
from tunewright_trl.fused import Fused

BETA = 0.5
ALL = {"batch_size": 12, "schedule": "constant", "learning_rate": 3e-2, "beta": BETA}
"""One batch an epoch: the second step's loss is that of the weights after the first."""


def log_prob(model: Any, prompt: list[int], completion: list[int]) -> float:
    """The summed log-probability of a completion after its prompt, in nats, by the model's plain logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
    scores = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return float(scores[torch.arange(len(completion)), torch.tensor(completion)].sum())


def said(model: Any, rows: list[PairRow]) -> torch.Tensor:
    """Log-probabilities [rows, 2]: chosen, rejected."""
    both = [[log_prob(model, row.prompt, row.chosen), log_prob(model, row.prompt, row.rejected)] for row in rows]
    return torch.tensor(both)


def varied(model: Any) -> Any:
    """An adapter as a stage before would leave it: each number of it away from where it began."""
    draw = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=draw)
    return model


def lora(**more: Any) -> Any:
    return get_peft_model(llama(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **more))


MODELS = {
    "lora": adapted,
    "dora": lambda: varied(lora(use_dora=True)),
    "with a module beside": lambda: varied(lora(modules_to_save=["model.norm"])),
    "ia3": lambda: varied(get_peft_model(llama(), IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"))),
    "vera": lambda: varied(get_peft_model(llama(), VeraConfig(
        r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))),
    "full": llama,
}  # fmt: skip


def test_what_the_model_reads_is_the_rows_own_and_nothing_else(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, model = pair_rows(), adapted()
    seen = what_is_read(model, monkeypatch)
    train("dpo", model=model, rows=rows, epochs=2)
    expected = Counter()
    for row in rows:
        for side in (row.chosen, row.rejected):
            expected[repr((row.prompt + side, [-100] * len(row.prompt) + side))] += 3  # the reference and two epochs
    assert Counter(map(repr, seen)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_the_reference_is_the_model_as_it_came(train: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model, rows = MODELS[name](), pair_rows()
    before = said(model, rows)
    found = references(held.HeldDpo, trl.trainer.dpo_trainer, monkeypatch)
    done = train("dpo", model=model, rows=rows, epochs=2, learning_rate=1e-3)
    (dataset,) = found  # worked out once
    columns = torch.tensor([dataset["ref_chosen_logps"][:], dataset["ref_rejected_logps"][:]]).T
    torch.testing.assert_close(columns, before, rtol=1e-4, atol=1e-4)
    assert done.outcome.losses[0][1] == pytest.approx(math.log(2), abs=1e-5)  # nothing differs from itself


def test_the_chosen_answers_gain_on_the_rejected(train: Any) -> None:
    model, rows = adapted(), pair_rows()
    before = said(model, rows)
    done = train("dpo", model=model, rows=rows, epochs=6)
    margins = (said(model, rows) - before) @ torch.tensor([1.0, -1.0])
    assert (margins > 0).all()
    assert done.outcome.losses[-1][1] < 0.5 * done.outcome.losses[0][1]


def after_one_step(train: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What the model says before the first and before the second step, and the second step's loss."""
    rows, model = pair_rows(), adapted()
    before = said(model, rows)
    train("dpo", model=model, rows=rows, max_steps=1, **{**ALL, **options})
    between = said(model, rows)
    losses = train("dpo", model=adapted(), rows=rows, max_steps=2, **{**ALL, **options}).outcome.losses
    return before, between, losses[1][1]


def sigmoid(d: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(BETA * (d[:, 0] - d[:, 1]))


def hinge(d: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - BETA * (d[:, 0] - d[:, 1]))


def ipo(d: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """By the token, as the paper's authors do."""
    means = d / lengths
    return (means[:, 0] - means[:, 1] - 1 / (2 * BETA)) ** 2


def robust(d: torch.Tensor, lengths: torch.Tensor, smoothing: float = 0.2) -> torch.Tensor:
    right, wrong = -logsigmoid(BETA * (d[:, 0] - d[:, 1])), -logsigmoid(BETA * (d[:, 1] - d[:, 0]))
    return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        ({}, sigmoid),
        ({"loss": "hinge"}, hinge),
        ({"loss": "ipo"}, ipo),
        ({"loss": "robust", "label_smoothing": 0.2}, robust),
        ({"loss": ["sigmoid", "ipo"], "loss_weights": [1.0, 0.25]}, lambda d, n: sigmoid(d, n) + 0.25 * ipo(d, n)),
    ],
    ids=["sigmoid", "hinge", "ipo", "robust", "two"],
)
def test_the_loss_is_the_papers(train: Any, options: dict[str, Any], formula: Any) -> None:
    before, between, loss = after_one_step(train, **options)
    lengths = torch.tensor([[len(row.chosen), len(row.rejected)] for row in pair_rows()])
    moved = between - before
    assert moved.abs().max() > 0.1  # else every formula would do
    assert loss == pytest.approx(float(formula(moved, lengths).mean()), rel=1e-4)


NEEDS_IT = {"exo_pair": 0.1}


@pytest.mark.parametrize("loss", get_args(Loss))
def test_label_smoothing_is_read_or_refused(train: Any, loss: str) -> None:
    """Either it changes the weights, or the spec is told that it would not."""
    one, other = NEEDS_IT.get(loss, 0.0), 0.2
    rows = pair_rows(4)
    plain, smoothed = (train("dpo", rows=rows, max_steps=1, loss=loss, label_smoothing=value).weights
                       for value in (one, other))  # fmt: skip
    changed = any(not torch.equal(weight, smoothed[name]) for name, weight in plain.items())
    refused = [f.code for f in trainer("dpo", {"loss": loss, "label_smoothing": other}).check(Facts())]
    assert refused == ([] if changed else ["argument-unused"])
    assert changed == (loss in SMOOTHED)


def test_the_losses_are_those_that_trl_computes() -> None:
    computed = re.findall(r'loss_type == "(\w+)"', inspect.getsource(trl.trainer.dpo_trainer.DPOTrainer))
    assert Counter(get_args(Loss)) == Counter(computed)


def test_the_description_names_every_loss_that_reads_the_smoothing() -> None:
    described = DpoOptions.model_fields["label_smoothing"].description or ""
    assert re.findall(r"`(\w+)`", described) == list(SMOOTHED)


def test_every_loss_is_another(train: Any) -> None:
    found = {}
    for loss in get_args(Loss):
        more = {"label_smoothing": NEEDS_IT.get(loss, 0.0), "args": {"discopop_tau": 0.5}}
        # AOT pairs the rows anew by their order: it is the sigmoid until that order has changed
        done = train("dpo", rows=pair_rows(4), loss=loss, max_steps=4, learning_rate=0.05, beta=BETA, **more)
        found[loss] = tuple(loss for _, loss in done.outcome.losses)
    alike = [{a, b} for a in found for b in found if a < b and found[a] == found[b]]
    assert alike == [{"sigmoid", "robust"}]  # which is the sigmoid where no label is doubted


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"loss": ["sigmoid", "sft"], "loss_weights": [1.0]}, "bad-value"),
        ({"loss": "exo_pair"}, "bad-value"),
        ({"loss_weights": [1.0, 2.0]}, "bad-value"),
    ],
)
def test_losses_that_do_not_go_together_are_refused(options: dict[str, Any], code: str) -> None:
    (finding,) = trainer("dpo", options).check(Facts())
    assert finding.code == code
    assert finding.suggestion


@pytest.mark.parametrize("weight", [0, -1.0, float("nan")])
def test_a_loss_that_would_not_count_or_be_raised_is_refused_by_its_place(weight: float) -> None:
    options = {"loss": ["sigmoid", "ipo"], "loss_weights": [1.0, weight]}
    with pytest.raises(ValidationError) as caught:
        trainer("dpo", options)
    assert [error["loc"] for error in caught.value.errors()] == [("loss_weights", 1)]


@pytest.mark.parametrize(
    "args",
    [{"ld_alpha": 0.5}, {"use_weighting": True}, {"f_divergence_type": "js_divergence"},
     {"f_divergence_type": "alpha_divergence"}],
    ids=str,
)  # fmt: skip
def test_further_arguments_of_the_loss_take_effect(train: Any, args: dict[str, Any]) -> None:
    plain, other = (train("dpo", epochs=2, args=given).outcome.losses for given in ({}, args))
    assert plain[-1] != other[-1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"loss": "nca_pair", "args": {"f_divergence_type": "js_divergence"}}, "f_divergence_type"),
        ({"loss": "aot", "args": {"use_weighting": True}}, "WPO"),
    ],
)
def test_what_trl_refuses_is_bad_input_in_its_words(train: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        train("dpo", **options)


QUICK = ("sigmoid", "ipo", "sft")
"""Of sums, of means and of single tokens: what the other losses are made of."""
EVERY = [pytest.param(adapted, loss, marks=[] if loss in QUICK else [pytest.mark.slow]) for loss in get_args(Loss)]


@pytest.mark.parametrize(("make", "loss"), [(llama, "sigmoid"), *EVERY], ids=["full", *get_args(Loss)])
def test_the_fast_forward_trains_as_trls_own(train: Any, monkeypatch: pytest.MonkeyPatch, make: Any, loss: str) -> None:
    options = {"loss": loss, "label_smoothing": NEEDS_IT.get(loss, 0.0), "epochs": 2, "learning_rate": 1e-3}
    fast = train("dpo", model=make(), **options)
    monkeypatch.setattr(held, "install", lambda model, *whys: Fused(model, None, "switched off"))
    slow = train("dpo", model=make(), **options)
    assert [event["left_alone"] for event in slow.events if event["event"] == "lm_head"] == ["switched off"]
    for (_, one), (_, other) in zip(fast.outcome.losses, slow.outcome.losses, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
    for name, weight in slow.weights.items():
        torch.testing.assert_close(fast.weights[name], weight, rtol=1e-3, atol=1e-5)


def test_validation_pairs_have_a_reference_of_their_own(train: Any) -> None:
    """Before anything is learnt the loss is log 2 on any pair; here, two steps of next to nothing are made."""
    done = train("dpo", validation=pair_rows(5, seed=9), eval_every=1, max_steps=2, learning_rate=1e-9, keep="last")
    assert [loss for _, loss in done.outcome.validation] == pytest.approx([math.log(2)] * 2, abs=1e-4)


def test_dropout_of_the_adapter_is_off(train: Any) -> None:
    """The reference would be another in every pass."""

    def model(share: float) -> Any:
        torch.manual_seed(1)
        return lora(lora_dropout=share)

    plain, dropped = (train("dpo", model=model(share), epochs=2).weights for share in (0.0, 0.5))
    for name, weight in plain.items():
        torch.testing.assert_close(dropped[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [Int8, Fp4])
def test_over_a_packed_base_the_reference_is_what_is_trained(train: Any, tmp_path: Path, kind: Any) -> None:
    """Before a step the two are one, in validation too; the library's 8-bit layers are two, by mode."""
    model = backend(TransformersLoader).model(tiny_model(tmp_path / "base"), backend(kind), "fp32", "train")
    still = {"max_steps": 2, "learning_rate": 1e-9, "eval_every": 1, "keep": "last"}
    done = train("dpo", model=backend(Lora).wrap(model, None), validation=pair_rows(5, seed=9), **still)
    for losses in (done.outcome.losses, done.outcome.validation):
        assert [loss for _, loss in losses] == pytest.approx([math.log(2)] * 2, abs=1e-5)
