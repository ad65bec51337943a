"""Kernels that a GPU is given are tried on the model, and ours are used in their place where they fail or answer
otherwise, which is said. The GPU is a fake one, flex attention in eager mode and Liger a stand-in: no kernel runs."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from test_lean_layers_keep_less import passed
from test_shared_beginnings_change_nothing import (
    FAMILIES,
    apart,
    assert_same,
    deep_rows,
    made,
    padded,
    prepared,
    shared_rows,
)
from tiny_training import adapted, llama
from torch.nn.attention import flex_attention as torchs
from torch.nn.functional import silu

from tunewright_transformers import flex
from tunewright_transformers.flex import FlexLayout
from tunewright_transformers.kernels import Probe
from tunewright_trl import fused as fused_forward
from tunewright_trl.lean import LeanLayers


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has flex attention, and not Liger; with gradients, which torch has on a CPU in its eager form."""
    monkeypatch.setattr(fused_forward, "probe", lambda device: Probe("cuda", (9, 0), triton=True, flex=True))
    monkeypatch.setattr(torchs, "_validate_device", lambda *given: None)
    torch._dynamo.reset()  # the eager form is traced for a few shapes only


@pytest.mark.parametrize("family", FAMILIES)
def test_by_flex_rows_score_and_learn_as_trl(gpu: None, family: str) -> None:
    fused = assert_same(prepared(adapted(made(family))), padded(deep_rows()))
    assert (fused.attention, fused.not_flex) == ("flex", "")
    assert fused.computed % 128 == 0, "what fills up the sequence is computed as well"


def test_also_with_checkpointing(gpu: None) -> None:
    model = prepared(adapted())
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    assert assert_same(model, padded(deep_rows())).attention == "flex"


def told(train: Any, name: str = "prefixes") -> Any:
    (event,) = (one for one in train("sft", rows=shared_rows(4), epochs=1).events if one["event"] == name)
    return event


def test_a_training_says_what_attends(gpu: None, train: Any) -> None:
    event = told(train)
    assert (event["unshared"], event["attention"], event["not_flex"]) == ("", "flex", "")


def test_on_a_cpu_products_attend_and_no_kernel_is_tried(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "not_by_flex", lambda *given: pytest.fail("flex attention was tried"))
    event = told(train)
    assert (event["unshared"], event["attention"], event["not_flex"]) == ("", "products", "the device is `cpu`")


def refusing(*given: Any, **named: Any) -> Any:
    raise ZeroDivisionError("no kernel\nfor this")


def otherwise(*given: Any, **named: Any) -> Any:
    return torchs.flex_attention(*given, **named) * 1.1


class Half(torch.autograd.Function):
    """Right forwards, half of the gradient backwards."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] / 2


def learning_otherwise(*given: Any, **named: Any) -> Any:
    return Half.apply(torchs.flex_attention(*given, **named))


@pytest.mark.parametrize(
    ("kernel", "why"),
    [(refusing, "no kernel for this"), (otherwise, "otherwise over a tree"), (learning_otherwise, "otherwise over")],
)
def test_a_kernel_that_fails_or_answers_otherwise_is_not_used(
    gpu: None, train: Any, monkeypatch: pytest.MonkeyPatch, kernel: Any, why: str
) -> None:
    monkeypatch.setattr(flex, "_kernel", lambda device: kernel)
    event = told(train)
    assert (event["unshared"], event["attention"]) == ("", "products")
    assert why in event["not_flex"]
    assert event["computed"] < event["of"], "beginnings are shared all the same"


def test_a_mask_that_leaks_is_found_before_the_first_step(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mask_of = flex.mask_of
    monkeypatch.setattr(flex, "mask_of", lambda ends, device: mask_of(torch.full_like(ends, len(ends)), device))
    model = adapted()
    assert "otherwise over a tree" in flex.not_by_flex(model.get_base_model(), 90)
    assert model.get_base_model().config._attn_implementation == "sdpa"
    assert not model.get_base_model().get_input_embeddings()._forward_hooks


@pytest.mark.parametrize(("longest", "tokens"), [(3, 256), (90, 512), (5000, 1024)])
def test_it_is_tried_on_one_block_and_on_more(longest: int, tokens: int) -> None:
    """None is longer than the training's rows, which may be as long as the model's window is."""
    ids, lengths = flex._branching(True, longest, 50000)
    layout = FlexLayout(flex.tree_of(ids, lengths, least=1), 1, "cpu")
    assert layout.longest <= longest
    assert layout.tokens >= tokens
    assert (longest < 400) or int(layout.mask.full_kv_num_blocks.sum()) > 0, "blocks of which all is seen"


class Norm(torch.autograd.Function):
    """Liger's, as it is called: casts as Llama does."""

    wrong = 1.0
    """What its gradient is multiplied by."""
    asked: list[tuple[Any, ...]] = []

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float, offset: float, casting: str, in_place: bool) -> Any:
        Norm.asked.append((offset, casting, in_place))
        ctx.eps = eps
        ctx.save_for_backward(x, weight)
        return weight * (x.float() * (x.float().pow(2).mean(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, weight = (one.detach().requires_grad_() for one in ctx.saved_tensors)
        with torch.enable_grad():
            out = weight * (x * (x.pow(2).mean(-1, keepdim=True) + ctx.eps).rsqrt())
            slopes = torch.autograd.grad(out, (x, weight), grads[0])
        # one more than was passed: its last argument has a default
        return slopes[0] * Norm.wrong, slopes[1], None, None, None, None, None


class Gate(torch.autograd.Function):
    """Liger's, as it is called; like that one it writes the gradients over what it kept."""

    asked = 0

    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        Gate.asked += 1
        ctx.save_for_backward(gate, up)
        return silu(gate) * up

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        gate, up = ctx.saved_tensors
        to_gate, to_up = torch.ops.aten.silu_backward(grads[0] * up, gate), silu(gate) * grads[0]
        return gate.data.copy_(to_gate), up.data.copy_(to_up), None, None


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Norm, "asked", [])
    monkeypatch.setattr(Gate, "asked", 0)
    parts = {"rms_norm": {"LigerRMSNormFunction": Norm}, "swiglu": {"LigerSiLUMulFunction": Gate}}
    for name in ("liger_kernel", "liger_kernel.ops", *(f"liger_kernel.ops.{part}" for part in parts)):
        module = ModuleType(name)
        vars(module).update(parts.get(name.rpartition(".")[2], {}))
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("wrap", [adapted, lambda model: model], ids=["adapter", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_ligers_layers_give_the_models_numbers(liger: None, wrap: Any, family: str) -> None:
    model = wrap(made(family)).train()
    logits, slopes, _ = passed(model)
    lean = LeanLayers(model, "")
    assert (lean.by_liger, lean.not_liger) == (len(lean), "")
    before = len(Norm.asked), Gate.asked
    found, learnt, _ = passed(model)
    lean.stop()
    assert (len(Norm.asked) - before[0], Gate.asked - before[1]) == (lean.by_liger - 2, 2), "its kernels were asked"
    assert set(Norm.asked) == {(0.0, "llama", False)}, "a gradient that others hold is not written over"
    torch.testing.assert_close(found, logits)
    assert apart(learnt, slopes) < 1e-5


def test_a_norm_of_another_gradient_is_ours(liger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Norm, "wrong", 0.9)
    lean = LeanLayers(llama(), "")
    assert (len(lean), lean.by_liger) == (7, 2), "the MLPs are still Liger's"
    assert lean.not_liger == "`LlamaRMSNorm`: Liger's kernels give another gradient"


def test_a_gate_that_fails_or_gives_other_numbers_is_ours(liger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault, why in ((refusing, "ZeroDivisionError: no kernel for this"), (torch.mul, "give other numbers")):
        monkeypatch.setattr(Gate, "apply", fault)
        lean = LeanLayers(llama(), "")
        assert (len(lean), lean.by_liger) == (7, 5)
        assert why in lean.not_liger
        lean.stop()


def test_a_liger_that_cannot_be_imported_is_none(liger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel.ops.swiglu", ModuleType("empty"))
    lean = LeanLayers(llama(), "")
    assert (len(lean), lean.by_liger) == (7, 0)
    assert "cannot be imported" in lean.not_liger


@pytest.mark.parametrize("there", [True, False])
def test_a_training_says_whose_layers_run(
    gpu: None, liger: None, train: Any, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    found = Probe("cuda", (9, 0), triton=True, flex=True, liger=there)
    monkeypatch.setattr(fused_forward, "probe", lambda device: found)
    event = told(train, "layers")
    assert (event["liger"], event["not_liger"]) == ((7, "") if there else (0, "`liger_kernel` is not installed"))
    assert bool(Norm.asked) == there


def test_on_a_cpu_liger_is_not_asked_though_it_is_there(liger: None, train: Any) -> None:
    event = told(train, "layers")
    assert (event["liger"], event["not_liger"]) == (0, "the device is `cpu`")
    assert not Norm.asked


def test_it_is_tried_on_rows_as_long_as_the_trainings(gpu: None, train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fused_forward, "not_by_flex", lambda model, longest: asked.append(longest) or "a reason")
    assert told(train)["not_flex"] == "a reason"
    assert asked == [max(row.tokens for row in shared_rows(4))]
