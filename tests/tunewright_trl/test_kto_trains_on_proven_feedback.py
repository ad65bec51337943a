"""KTO trains on our tokens; its KL term is of each row's neighbour in the batch, the same in every epoch."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.trainer.kto_trainer
from peft import IA3Config, get_peft_model
from pydantic import ValidationError
from tiny_training import adapted, feedback_rows, llama, references, trainer, what_is_read

from tunewright.parts.trainer import FeedbackRow
from tunewright_trl import held
from tunewright_trl import watch as watching
from tunewright_trl.fused import Fused

BETA = 0.5
ALL = {"batch_size": 12, "schedule": "constant", "learning_rate": 3e-2, "beta": BETA}


def log_prob(model: Any, prompt: list[int], completion: list[int]) -> float:
    """The summed log-probability of a completion after its prompt, in nats, by the model's plain logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
    scores = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return float(scores[torch.arange(len(completion)), torch.tensor(completion)].sum())


def said(model: Any, rows: list[FeedbackRow], lent: list[list[int]] | None = None) -> torch.Tensor:
    """Log-probabilities [rows] of the completions, or of those that the neighbours lend."""
    answers = [row.completion for row in rows] if lent is None else lent
    return torch.tensor([log_prob(model, row.prompt, one) for row, one in zip(rows, answers, strict=True)])


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The row ids of each training, in the order in which they were trained on."""
    found: list[list[str]] = []
    conclude = watching.Watch.conclude

    def spy(self: Any, *args: Any) -> None:
        found.append(list(self.order))
        conclude(self, *args)

    monkeypatch.setattr(watching.Watch, "conclude", spy)
    return found


def in_order(rows: list[FeedbackRow], order: list[str]) -> list[FeedbackRow]:
    by_id = {row.row_id: row for row in rows}
    return [by_id[name] for name in order[: len(rows)]]


def neighbours(rows: list[FeedbackRow], size: int) -> list[list[int]]:
    """What each row reads for the KL term: the completion of the row before it in its batch, the first the last's."""
    lent = []
    for start in range(0, len(rows), size):
        batch = [row.completion for row in rows[start : start + size]]
        lent += [batch[place - 1] for place in range(len(batch))]
    return lent


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_what_the_model_reads_is_the_rows_own_and_their_neighbours(
    train: Any, monkeypatch: pytest.MonkeyPatch, orders: list[list[str]], loss: str
) -> None:
    rows, model = feedback_rows(10), adapted()
    seen = what_is_read(model, monkeypatch)
    train("kto", model=model, rows=rows, epochs=2, loss=loss)
    expected, ordered = Counter(), in_order(rows, orders[0])
    for row, lent in zip(ordered, neighbours(ordered, 4), strict=True):
        for completion in (row.completion, lent) if loss == "kto" else (row.completion,):
            expected[repr((row.prompt + completion, [-100] * len(row.prompt) + completion))] += 3  # reference, 2 epochs
    assert Counter(map(repr, seen)) == expected


def test_a_last_row_alone_in_its_batch_does_not_read_its_own_answer() -> None:
    rows, config = feedback_rows(9), SimpleNamespace(per_device_train_batch_size=4, loss_type="kto")
    lent = [list(one) for one in held.HeldKto.table(None, rows, config)["KL_completion_ids"]]
    assert lent[:4] == neighbours(rows[:4], 4)
    assert lent[4:] == neighbours(rows[4:], 5)


def test_the_order_is_the_seeds_and_the_same_in_every_epoch(train: Any, orders: list[list[str]]) -> None:
    for seed in (0, 0, 1):
        train("kto", epochs=2, seed=seed)
    first, again, other = orders
    assert first == again
    assert first[:12] == first[12:] != [f"row-{number}" for number in range(12)]
    assert other[:12] == other[12:] != first[:12]
    assert sorted(first[:12]) == sorted(f"row-{number}" for number in range(12))


def varied_ia3() -> Any:
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM")
    model, draw = get_peft_model(llama(), config), torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


@pytest.mark.parametrize("make", [adapted, varied_ia3, llama], ids=["lora", "ia3", "full"])
def test_the_reference_is_the_model_as_it_came(train: Any, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    model, rows = make(), feedback_rows()
    by_id = dict(zip((row.row_id for row in rows), said(model, rows), strict=True))
    found = references(held.HeldKto, trl.trainer.kto_trainer, monkeypatch)
    done = train("kto", model=model, rows=rows, epochs=2, learning_rate=1e-3)
    (dataset,) = found
    expected = torch.stack([by_id[name] for name in dataset["row_id"]])
    torch.testing.assert_close(torch.tensor(dataset["ref_logps"][:]), expected, rtol=1e-4, atol=1e-4)
    assert done.outcome.losses[0][1] == pytest.approx(0.5, abs=1e-5)  # nothing differs from itself


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.5)], ids=["even", "weighted"])
def test_the_loss_is_the_papers(train: Any, orders: list[list[str]], loss: str, weights: tuple[float, float]) -> None:
    """One batch an epoch: the second step's loss is that of the weights after the first, by hand."""
    rows, model = feedback_rows(), adapted()
    options = {**ALL, "loss": loss, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    train("kto", model=model, rows=rows, max_steps=1, **options)
    ordered = in_order(rows, orders[0])
    lent = neighbours(ordered, len(rows))
    moved = said(model, ordered) - said(adapted(), ordered)
    drift = (said(model, ordered, lent) - said(adapted(), ordered, lent)).mean().clamp(min=0)
    assert moved.abs().max() > 0.1  # else every formula would do
    if loss == "apo_zero_unpaired":
        drift = torch.zeros(())
    total = 0.0
    for row, gain in zip(ordered, moved, strict=True):
        better = torch.sigmoid(BETA * (gain - drift) * (1 if row.label else -1))
        total += float((1 - better) * weights[0 if row.label else 1])
    losses = train("kto", rows=rows, max_steps=2, **options).outcome.losses
    assert losses[1][1] == pytest.approx(total / len(rows), rel=1e-4)


def test_wanted_answers_gain_and_unwanted_ones_lose(train: Any) -> None:
    model, rows = adapted(), feedback_rows()
    before = said(model, rows)
    done = train("kto", model=model, rows=rows, epochs=8)
    gained = said(model, rows) - before
    wanted = torch.tensor([row.label for row in rows])
    assert gained[wanted].mean() > 0 > gained[~wanted].mean()
    assert done.outcome.losses[-1][1] < done.outcome.losses[0][1]


def test_the_fast_forward_trains_as_trls_own(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = train("kto", epochs=2, learning_rate=1e-3)
    monkeypatch.setattr(held, "install", lambda model, *whys: Fused(model, None, "switched off"))
    slow = train("kto", epochs=2, learning_rate=1e-3)
    for (_, one), (_, other) in zip(fast.outcome.losses, slow.outcome.losses, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for name, weight in slow.weights.items():
        torch.testing.assert_close(fast.weights[name], weight, rtol=1e-3, atol=1e-5)


def test_a_batch_of_one_row_is_refused() -> None:
    """It has no neighbour."""
    with pytest.raises(ValidationError):
        trainer("kto", {"batch_size": 1})


def test_feedback_of_one_kind_alone_trains(train: Any) -> None:
    rows = [FeedbackRow(r.row_id, r.origin, r.prompt, r.completion, True) for r in feedback_rows()]
    done = train("kto", rows=rows, epochs=2)
    assert all(math.isfinite(loss) for _, loss in done.outcome.losses)
