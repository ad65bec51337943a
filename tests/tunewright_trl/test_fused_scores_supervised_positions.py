"""The replaced forward gives TRL's own numbers, and runs the LM head where a label stands and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import VOCABULARY, adapted, llama
from trl.trainer.utils import add_fused_lm_head

from tunewright_trl import logprob
from tunewright_trl.fused import install

OUTPUTS = ("log_probs", "entropy", "is_top1")


def batch(rows: int = 5, length: int = 17) -> dict[str, torch.Tensor]:
    """Right-padded ragged rows; the second has no label at all, the third one at its very first position only."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=draw)
    mask = torch.ones_like(ids)
    labels = torch.full_like(ids, -100)
    for row in range(rows):
        end = length - 2 * row
        mask[row, end:], ids[row, end:] = 0, 2
        labels[row, end - 3 : end] = ids[row, end - 3 : end]
    labels[1] = -100
    labels[2] = -100
    labels[2, 0] = ids[2, 0]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def prepared(model: Any, outputs: tuple[str, ...] = OUTPUTS) -> Any:
    add_fused_lm_head(model.get_base_model() if hasattr(model, "get_base_model") else model, outputs=outputs)
    return model


def scores(model: Any, inputs: dict[str, torch.Tensor], **kwargs: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    model.zero_grad()
    out = model(**inputs, fused_lm_head=True, **kwargs)
    out.loss.backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: Any, inputs: dict[str, torch.Tensor], **kwargs: Any) -> None:
    """TRL's forward against ours on the same model: every output, and every gradient."""
    theirs, their_grads = scores(model, inputs, **kwargs)
    fused = install(model)
    ours, our_grads = scores(model, inputs, **kwargs)
    fused.uninstall()
    assert fused.left_alone == ""
    assert fused.scored == int((inputs["labels"][:, 1:] != -100).sum()) < fused.padded
    for name in ("loss", "log_probs", "entropy"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.is_top1, theirs.is_top1)
    assert torch.equal(ours.label_mask, theirs.label_mask)
    assert our_grads.keys() == their_grads.keys()
    for name, grad in their_grads.items():
        assert (our_grads[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-8, name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wrap", [adapted, lambda model: model], ids=["adapter", "full"])
def test_equals_trl(wrap: Any, tied: bool) -> None:
    assert_same(prepared(wrap(llama(tie_word_embeddings=tied))), batch())


def test_equals_trl_when_the_step_counts_more_tokens_than_the_batch() -> None:
    assert_same(prepared(adapted()), batch(), num_items_in_batch=torch.tensor(40))


def test_equals_trl_with_logits_in_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprob, "LOGITS_AT_ONCE", 2 * VOCABULARY)
    assert_same(prepared(adapted()), batch())


def test_equals_trl_with_scaled_and_capped_logits() -> None:
    model = llama()
    model.config.final_logit_softcapping, model.config.logit_scale = 5.0, 0.5
    assert_same(prepared(adapted(model)), batch())


def test_a_batch_without_labels_is_a_zero_that_can_be_differentiated() -> None:
    model, inputs = prepared(adapted()), batch()
    inputs["labels"][:] = -100
    fused = install(model)
    out, grads = scores(model, inputs)
    assert out.loss.item() == 0.0
    assert fused.scored == 0
    assert grads and not any(grad.any() for grad in grads.values())


def test_a_sure_model_in_bf16_keeps_its_small_gradient() -> None:
    """Where p is almost 1, (onehot - p) must be formed before it is rounded."""
    torch.manual_seed(0)
    weight = torch.randn(50, 16, dtype=torch.bfloat16)
    targets = torch.arange(8)
    hidden = weight[targets].float() * 0.8

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        state = hidden.to(dtype).requires_grad_()
        log_probs, *_ = logprob.FrozenHeadLogProb.apply(state, weight.to(dtype), targets)
        assert log_probs.exp().min() > 0.9
        log_probs.sum().backward()
        return state.grad.double()

    exact, rounded = gradient(torch.float64), gradient(torch.bfloat16)
    assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_the_plain_forward_is_the_models_own() -> None:
    model, inputs = prepared(adapted()), batch()
    before = model(**inputs)
    fused = install(model)
    after = model(**inputs)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.loss, after.loss)
    assert fused.padded == 0


def test_shifted_labels_are_trls_business() -> None:
    model, inputs = prepared(adapted()), batch()
    shifted = {**inputs, "shift_labels": inputs["labels"].roll(-1, 1)}
    before = model(**shifted, fused_lm_head=True)
    fused = install(model)
    assert torch.equal(model(**shifted, fused_lm_head=True).log_probs, before.log_probs)
    assert fused.padded == 0


def test_uninstall_puts_back_what_was_there() -> None:
    model = prepared(adapted())
    before = model.get_base_model().forward
    fused = install(model)
    assert model.get_base_model().forward != before
    fused.uninstall()
    assert model.get_base_model().forward == before


@pytest.mark.parametrize("spoil", ["unpatched", "experts", "fp32"])
def test_an_unusual_model_is_left_alone_and_it_is_said(spoil: str) -> None:
    model = llama()
    if spoil == "experts":
        model.config.output_router_logits = False
    if spoil != "unpatched":
        add_fused_lm_head(model, cast_lm_head_to_fp32=spoil == "fp32", outputs=OUTPUTS)
    before = model.forward
    fused = install(model)
    assert fused.left_alone
    assert model.forward == before
    fused.uninstall()
    assert model.forward == before
