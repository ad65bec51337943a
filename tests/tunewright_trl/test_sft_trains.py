"""A training learns from the rows it is given, tells what happened, repeats exactly, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_training import VOCABULARY, adapted, llama, token_rows, what_is_read

from tunewright.digest import digest_json
from tunewright.errors import WorkFailed
from tunewright.parts.trainer import TokenRow
from tunewright_trl import watch as watching


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_learns(train: Any) -> None:
    losses = [loss for _, loss in train(epochs=12).outcome.losses]
    assert losses[-1] < 0.3 * losses[0]


def test_the_labels_that_reach_the_model_are_the_rows_own(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard against a loss that is taken over the wrong tokens."""
    rows, model = token_rows(), adapted()
    seen = what_is_read(model, monkeypatch)
    train(model=model, rows=rows, epochs=2)
    assert Counter(map(repr, seen)) == Counter(repr((row.ids, row.labels)) for row in rows * 2)


def test_the_loss_is_the_mean_over_supervised_tokens(train: Any) -> None:
    """Against logits of the untrained model, without TRL; three batches of unequal sizes make one optimizer step."""
    rows, model = token_rows(10), adapted()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids])).logits[0]
            for place in range(1, len(row.ids)):
                if row.labels[place] != -100:
                    total -= float(torch.log_softmax(logits[place - 1], -1)[row.labels[place]])
                    count += 1
    outcome = train(model=model, rows=rows, batch_size=4, accumulation=3).outcome
    assert outcome.losses == ((1, pytest.approx(total / count, rel=1e-5)),)
    assert outcome.supervised == count


def test_one_event_an_optimizer_step(train: Any) -> None:
    done = train(epochs=2, warmup_steps=2, learning_rate=1e-3)
    assert [event["optimizer_step"] for event in done.steps] == [1, 2, 3, 4, 5, 6]
    assert {event["optimizer_steps"] for event in done.steps} == {6}
    assert [event["loss"] for event in done.steps] == [loss for _, loss in done.outcome.losses]
    rates = [event["learning_rate"] for event in done.steps]
    assert rates == pytest.approx([0.0, 5e-4, 1e-3, 7.5e-4, 5e-4, 2.5e-4])
    assert all(event["tokens_per_second"] > 0 for event in done.steps)
    assert done.steps[-1]["epoch"] == 2.0
    json.dumps(done.events, allow_nan=False)


def test_the_head_runs_at_supervised_positions_only_and_it_is_said(train: Any) -> None:
    done = train(epochs=2)
    (head,) = (event for event in done.events if event["event"] == "lm_head")
    assert head["scored"] == done.outcome.supervised < head["of"]
    assert head["left_alone"] == ""


def test_the_outcome_counts_what_was_trained_on(train: Any) -> None:
    rows = token_rows()
    outcome = train(rows=rows, epochs=2).outcome
    assert outcome.steps == 6
    assert outcome.tokens == 2 * sum(len(row.ids) for row in rows)
    assert outcome.supervised == 2 * sum(label != -100 for row in rows for label in row.labels)


def test_the_row_order_is_the_seeds_and_holds_each_row_once_an_epoch(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[list[str]] = []
    monkeypatch.setattr(
        watching.Watch, "conclude", lambda self, before, after: orders.append(list(self.order)), raising=True
    )
    first, again, other = train(epochs=2), train(epochs=2), train(epochs=2, seed=1)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:12] != orders[0][12:]
    for half in (orders[0][:12], orders[0][12:]):
        assert Counter(half) == Counter(row.row_id for row in token_rows())
    assert first.outcome.row_order == again.outcome.row_order == digest_json(orders[0])
    assert other.outcome.row_order == digest_json(orders[2])


def test_the_same_job_gives_the_same_bytes(train: Any) -> None:
    first = train(epochs=2)
    torch.manual_seed(99)  # what was drawn before a training is none of its business
    assert same(first.weights, train(epochs=2).weights)


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-3}, {"seed": 1}, {"weight_decay": 0.5}, {"schedule": "constant"}]
)
def test_what_the_spec_changes_changes_the_weights(train: Any, change: dict[str, Any]) -> None:
    assert not same(train(epochs=2).weights, train(epochs=2, **change).weights)


@pytest.mark.parametrize("change", [{"checkpointing": True}, {"batch_size": 2, "accumulation": 2}])
def test_what_only_saves_memory_trains_the_same(train: Any, change: dict[str, Any]) -> None:
    whole, saved = train(rows=token_rows(4)), train(rows=token_rows(4), **change)
    assert len(whole.outcome.losses) == len(saved.outcome.losses) == 1
    assert saved.outcome.losses[0][1] == pytest.approx(whole.outcome.losses[0][1], rel=1e-6)
    for name, weight in whole.weights.items():
        torch.testing.assert_close(saved.weights[name], weight, rtol=1e-4, atol=1e-5)


def test_the_base_itself_can_be_trained(train: Any) -> None:
    done = train(model=llama(), epochs=8, learning_rate=1e-3)
    assert done.outcome.losses[-1][1] < done.outcome.losses[0][1]


def test_a_loss_that_is_no_number_stops_with_the_rows(train: Any) -> None:
    model, rows = adapted(), token_rows(8)
    poison = VOCABULARY - 1
    rows = [TokenRow(r.row_id, r.origin, [min(i, poison - 1) for i in r.ids], r.labels) for r in rows]
    rows = [TokenRow(r.row_id, r.origin, r.ids, [min(i, poison - 1) for i in r.labels]) for r in rows]
    rows[5] = TokenRow("the-bad-row", "rows.csv:7", [poison, *rows[5].ids[1:]], rows[5].labels)
    with torch.no_grad():
        model.get_input_embeddings().weight[poison] = math.nan
    before = copy.deepcopy({name: p for name, p in model.named_parameters() if p.requires_grad})
    with pytest.raises(WorkFailed, match=r"the loss is nan at rows the-bad-row\n"):
        train(model=model, rows=rows, batch_size=1, accumulation=8)
    after = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert same(before, after)  # no optimizer step was made with it


def test_a_gradient_that_is_no_number_stops_with_the_rows(train: Any) -> None:
    model = adapted()
    weight = next(p for name, p in model.named_parameters() if "lora_A" in name)
    weight.register_hook(lambda grad: grad * math.nan)
    with pytest.raises(WorkFailed, match=r"the gradient's norm is nan at rows row-\d+, "):
        train(model=model)


def test_a_learning_rate_of_zero_throughout_is_refused(train: Any) -> None:
    with pytest.raises(WorkFailed, match="the learning rate was zero in each of the 1 steps"):
        train(max_steps=1, warmup_steps=1)


def test_weights_that_do_not_move_are_refused(train: Any) -> None:
    model = adapted()
    model.to(torch.bfloat16)  # in which such a small step rounds to none
    with pytest.raises(WorkFailed, match="the trained weights are unchanged after 3 steps"):
        train(model=model, learning_rate=1e-9)


def test_a_training_without_gradient_is_refused(train: Any) -> None:
    model = adapted()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(torch.zeros_like)
    with pytest.raises(WorkFailed, match="no gradient reached a trained weight"):
        train(model=model)


@pytest.mark.parametrize(
    "rows", [[], [TokenRow("r", "o", [5, 6], [-100, -100])], [TokenRow("r", "o", [5, 6], [5, -100])]]
)
def test_rows_without_a_supervised_token_are_refused(train: Any, rows: list[TokenRow]) -> None:
    with pytest.raises(WorkFailed, match=r"no token bears a loss in (rows|no row)"):
        train(rows=rows)


def test_weights_that_changed_and_reach_no_logit_are_refused(train: Any) -> None:
    """Adapters that are on while the model is trained, and off where it is asked."""
    model = adapted()
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, given, out: out if layer.training else layer.base_layer(*given))
    before = copy.deepcopy({name: p for name, p in model.named_parameters() if p.requires_grad})
    with pytest.raises(WorkFailed, match=r"changed in 3 steps .* logits along these rows are what they were") as caught:
        train(model=model)
    assert "reaches the model's output" in caught.value.fix
    assert not same(before, {name: p for name, p in model.named_parameters() if p.requires_grad})
    layers[-1]._forward_hooks.clear()  # one of them that is asked is enough
    train(model=model)


def test_adapters_on_a_path_that_ends_in_zeros_are_refused(train: Any) -> None:
    base = llama()
    for layer in base.model.layers:
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["up_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(WorkFailed, match="no gradient reached a trained weight"):
        train(model=model)
