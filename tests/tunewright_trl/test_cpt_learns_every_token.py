"""Continued pretraining learns each token of its packed texts, without padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import VOCABULARY, adapted, token_rows, trainer

from tunewright.data.pack import pack
from tunewright.parts.trainer import TokenRow

LENGTH = 16


def texts(count: int = 20) -> list[TokenRow]:
    """Texts as they are proven: every token is a label."""
    return [TokenRow(row.row_id, row.origin, row.ids, row.ids) for row in token_rows(count)]


def test_each_token_bears_a_loss_but_the_first_of_a_row(train: Any) -> None:
    rows, model = pack(texts(), LENGTH), adapted()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            scores = torch.log_softmax(model(input_ids=torch.tensor([row.ids])).logits[0, :-1], -1)
            total -= float(scores[torch.arange(len(row.ids) - 1), torch.tensor(row.ids[1:])].sum())
            count += len(row.ids) - 1
    outcome = train("cpt", model=model, rows=rows, batch_size=len(rows), max_steps=1).outcome
    assert outcome.supervised == count
    assert outcome.losses == ((1, pytest.approx(total / count, rel=1e-5)),)


def test_nothing_is_padded_and_nothing_left_out(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    every, model, seen = texts(), adapted(), []
    whole = [row for row in pack(every, LENGTH) if len(row.ids) == LENGTH]
    forward = type(model).forward

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert kwargs["attention_mask"].all()
        assert torch.equal(kwargs["labels"], kwargs["input_ids"])
        seen.extend(kwargs["input_ids"].tolist())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", spy)
    train("cpt", model=model, rows=whole)
    assert sorted(seen) == sorted(row.ids for row in whole)
    joined = [token for row in every for token in row.ids]
    assert [token for row in whole for token in row.ids] == joined[: len(whole) * LENGTH]


def test_it_learns_the_texts(train: Any) -> None:
    """A stream that counts upwards: what comes next is always known."""
    counting = [TokenRow(f"t{n}", "texts", ids := [3 + (n + i) % (VOCABULARY - 3) for i in range(40)], ids)
                for n in range(0, 90, 6)]  # fmt: skip
    losses = [loss for _, loss in train("cpt", rows=pack(counting, LENGTH), epochs=12).outcome.losses]
    assert losses[-1] < 0.5 * losses[0]


def test_packing_is_the_specs_to_switch_off() -> None:
    assert trainer("cpt", {}).packs
    assert not trainer("cpt", {"packing": False}).packs
    assert not any(trainer(kind, {}).packs for kind in ("sft", "dpo", "kto"))
