"""A training that cannot have taught anything stops, and says which rows or what else it was: for every trainer."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from typing import Any

import pytest
import torch
from tiny_training import ROWS, VOCABULARY, adapted, llama

from tunewright.errors import TunewrightWarning, WorkFailed
from tunewright.parts.trainer import FeedbackRow, PairRow, TokenRow

KINDS = ("sft", "cpt", "dpo", "kto")
POISON = VOCABULARY - 1


def clean(row: Any, poisoned: bool) -> Any:
    """The row without the token whose embedding is no number, or with it at the start."""

    def least(ids: list[int]) -> list[int]:
        return [min(token, POISON - 1) for token in ids]

    lists = {name: least(value) for name, value in vars(row).items() if isinstance(value, list)}
    if poisoned:
        first = "ids" if "ids" in lists else "prompt"
        lists[first] = [POISON, *lists[first][1:]]
        return dataclasses.replace(row, **lists, row_id="the-bad-row")
    return dataclasses.replace(row, **lists)


def poisonous() -> Any:
    model = adapted()
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = math.nan
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_stops_with_the_rows_before_a_step_is_made_of_it(train: Any, kind: str) -> None:
    model, size = poisonous(), 2 if kind == "kto" else 1
    rows = [clean(row, number == 5) for number, row in enumerate(ROWS[kind](8))]
    before = copy.deepcopy({name: p.detach() for name, p in model.named_parameters() if p.requires_grad})
    with pytest.raises(WorkFailed, match="the loss is nan at rows ") as caught:
        train(kind, model=model, rows=rows, batch_size=size, accumulation=8 // size)
    named = str(caught.value).partition(" at rows ")[2].splitlines()[0].split(", ")
    assert "the-bad-row" in named
    assert len(named) == size
    after = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_validation_row_without_a_number_for_a_loss_stops_it_and_is_named(train: Any, kind: str) -> None:
    size = 2 if kind == "kto" else 1
    rows, held = ([clean(row, bad and number == 5) for number, row in enumerate(ROWS[kind](8))] for bad in (0, 1))
    held = [dataclasses.replace(row, row_id=f"held-{row.row_id}") for row in held]
    with pytest.raises(WorkFailed, match="the loss on the validation rows is nan at rows ") as caught:
        train(kind, model=poisonous(), rows=rows, validation=held, eval_every=1, epochs=2, batch_size=size)
    named = str(caught.value).partition(" at rows ")[2].splitlines()[0].split(", ")
    assert "held-the-bad-row" in named
    assert len(named) == size and all(name.startswith("held-") for name in named)


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in KINDS), ("sft", {"max_grad_norm": 0}), ("dpo", {"max_grad_norm": 0})]
)
def test_a_gradient_that_is_no_number_stops_with_the_rows(train: Any, kind: str, options: dict[str, Any]) -> None:
    model = adapted()
    weight = next(p for name, p in model.named_parameters() if "lora_A" in name and p.requires_grad)
    weight.register_hook(lambda grad: grad * math.nan)
    with pytest.raises(WorkFailed, match=r"the gradient's norm is nan at rows row-\d+, "):
        train(kind, model=model, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_rate_of_zero_throughout_is_refused(train: Any, kind: str) -> None:
    with pytest.raises(WorkFailed, match="the learning rate was zero in each of the 1 steps"):
        train(kind, max_steps=1, warmup_steps=1)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_no_gradient_reaches_are_refused(train: Any, kind: str) -> None:
    model = adapted()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(torch.zeros_like)
    with pytest.raises(WorkFailed, match="no gradient reached a trained weight"):
        train(kind, model=model, epochs=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [adapted, llama], ids=["adapter", "full"])
def test_a_model_that_is_frozen_throughout_is_refused(train: Any, kind: str, make: Any) -> None:
    with pytest.raises(WorkFailed, match="no weight of the model is to be trained"):
        train(kind, model=make().requires_grad_(False))


EMPTY: dict[str, list[list[Any]]] = {
    "sft": [[], [TokenRow("r", "o", [5, 6], [-100, -100])], [TokenRow("r", "o", [5, 6], [5, -100])]],
    "cpt": [[], [TokenRow("r", "o", [5], [5])]],
    "dpo": [[], [PairRow("r", "o", [5, 6], [], [])]],
    "kto": [[], [FeedbackRow("r", "o", [5, 6], [], True)]],
}


@pytest.mark.parametrize(("kind", "rows"), [(kind, rows) for kind, several in EMPTY.items() for rows in several])
def test_rows_without_a_supervised_token_are_refused(train: Any, kind: str, rows: list[Any]) -> None:
    with pytest.raises(WorkFailed, match=r"no token bears a loss in (rows|no row)"):
        train(kind, rows=rows)


@pytest.mark.parametrize(
    ("kind", "warmup", "said"),
    [
        ("sft", 4, "the warm-up takes 4 steps and the training has 4: the learning rate rises to 0.0075 and never"),
        ("kto", 8, "the warm-up takes 8 steps and the training has 4: the learning rate rises to 0.00375 and never"),
        ("dpo", 0.9, "the warm-up takes 4 steps and the training has 4"),  # the share is rounded up
    ],
)
def test_a_warm_up_that_never_reaches_the_peak_is_told_with_its_numbers(
    train: Any, kind: str, warmup: float, said: str
) -> None:
    with pytest.warns(TunewrightWarning) as caught:
        done = train(kind, max_steps=4, warmup_steps=warmup, learning_rate=1e-2)
    (kept,) = (event["why"] for event in done.events if event["event"] == "warning")
    assert [str(one.message) for one in caught if issubclass(one.category, TunewrightWarning)] == [kept]
    assert kept.startswith(said)
    assert max(event["learning_rate"] for event in done.steps) < 1e-2


@pytest.mark.parametrize("warmup", [0, 3, 0.75])
def test_a_warm_up_that_reaches_it_with_the_last_step_is_none_to_speak_of(train: Any, warmup: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", TunewrightWarning)
        done = train(max_steps=4, warmup_steps=warmup, learning_rate=1e-2)
    assert not [event for event in done.events if event["event"] == "warning"]
    assert max(event["learning_rate"] for event in done.steps) == pytest.approx(1e-2)
