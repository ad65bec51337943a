"""Accumulated batches train as one large batch does, whatever the number of tokens in each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import ROWS, Trained, adapted, llama, token_rows

from tunewright.parts.trainer import TokenRow

SHAPES = [(8, 2), (4, 4), (1, 16)]
SAME = {"epochs": 3, "learning_rate": 1e-3, "schedule": "constant"}


def uneven(count: int = 16) -> list[TokenRow]:
    """Rows that have from one to forty supervised tokens: the mean over batches is far from the mean over tokens."""
    rows = []
    for number, row in enumerate(token_rows(count)):
        answer = row.ids[-1:] * (1 if number % 3 else 40)
        prompt = row.ids[:3]
        rows.append(TokenRow(row.row_id, row.origin, prompt + answer, [-100] * len(prompt) + answer))
    return rows


def alike(one: Trained, other: Trained) -> None:
    assert len(one.outcome.losses) == len(other.outcome.losses) == 3
    for (_, loss), (_, expected) in zip(one.outcome.losses, other.outcome.losses, strict=True):
        assert loss == pytest.approx(expected, rel=1e-5)
    for name, weight in other.weights.items():
        torch.testing.assert_close(one.weights[name], weight, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["sft", "cpt"])
def test_tokens_count_alike_in_whichever_batch_they_are(train: Any, kind: str, shape: tuple[int, int]) -> None:
    size, times = shape
    whole = train(kind, rows=uneven(), batch_size=16, **SAME)
    alike(train(kind, rows=uneven(), batch_size=size, accumulation=times, **SAME), whole)
    assert whole.outcome.losses[0][1] != pytest.approx(by_batch(), rel=0.01)  # a mean of means would be another number


def by_batch() -> float:
    """What the first loss would be if each row counted alike instead of each token."""
    model, means = adapted(), []
    with torch.no_grad():
        for row in uneven():
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, 2:-1]
            scores = torch.log_softmax(logits, -1)
            means.append(float(-scores[torch.arange(len(row.ids) - 3), torch.tensor(row.ids[3:])].mean()))
    return sum(means) / len(means)


def test_full_fine_tuning_accumulates_as_well(train: Any) -> None:
    whole = train(model=llama(), rows=uneven(), batch_size=16, **SAME)
    alike(train(model=llama(), rows=uneven(), batch_size=4, accumulation=4, **SAME), whole)


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_pairs_and_feedback_count_alike_in_equal_batches(train: Any, kind: str) -> None:
    """Without KTO's KL term, which is estimated batch by batch."""
    more = {"loss": "apo_zero_unpaired"} if kind == "kto" else {}
    whole = train(kind, rows=ROWS[kind](16), batch_size=16, **more, **SAME)
    alike(train(kind, rows=ROWS[kind](16), batch_size=4, accumulation=4, **more, **SAME), whole)
