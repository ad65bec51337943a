"""What is put into vLLM's processes: the products of LoRA as a plain loop over rows has them, the base's left alone."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tunewright_vllm import lora_cpu
from tunewright_vllm.lora_cpu import MARK, Rows, add_product, rows_of

ORDERS = {
    "runs": [0, 0, 2, 2, 2, -1, -1, 1],
    "scattered": [2, -1, 0, 2, -1, 0, 1, 2],
    "the base alone": [-1] * 8,
    "one adapter": [1] * 8,
    "the base's beside the last adapter's": [-1, 2, -1, 2, -1, -1, 2, -1],
}
EACH = pytest.mark.parametrize("slots", ORDERS.values(), ids=ORDERS)


def numbers(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def plainly(y, x, weights, slots, scale=1.0):
    """One row after the other, of those that have an adapter."""
    found = y.clone()
    for row, slot in enumerate(slots):
        if slot >= 0:
            width = min(weights.shape[-2], y.shape[1])
            found[row, :width] += scale * (
                weights[slot].reshape(weights.shape[-2:])[:width].to(y.dtype) @ x[row].to(y.dtype)
            )
    return found


def test_rows_are_put_together_by_their_adapter_and_a_run_copies_nothing():
    count, parted = rows_of(torch.tensor([1, 1, -1, 0, 2, 0]))
    assert count == 6
    found = {slot: where if isinstance(where, slice) else where.tolist() for slot, where in parted}
    assert found == {1: slice(0, 2), 0: [3, 5], 2: slice(4, 5)}
    assert rows_of(torch.tensor([-1, -1])) == Rows(2, ())


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(3, 1, 6, 5), (3, 6, 5)])
def test_a_product_is_that_of_each_row_by_itself(slots, dtype, scale, shape):
    y, x, weights = numbers(8, 6, dtype=dtype), numbers(8, 5), numbers(*shape)
    expected = plainly(y, x, weights, slots, scale)
    before = y.clone()
    add_product(y, x, weights, rows_of(torch.tensor(slots)), scale)
    assert y.dtype == dtype
    assert torch.allclose(y.float(), expected.float(), atol=1e-5 if dtype == torch.float32 else 0.1)
    base = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(y[base], before[base])
    for row, slot in enumerate(slots):
        assert slot < 0 or not torch.equal(y[row], before[row])


@pytest.mark.parametrize(("wide", "out"), [(9, 6), (6, 9)])
def test_where_one_is_padded_the_narrower_width_counts(wide, out):
    slots = ORDERS["scattered"]
    y, x, weights = numbers(8, wide), numbers(8, 5), numbers(3, 1, out, 5)
    expected = plainly(y, x, weights, slots)
    add_product(y, x, weights, rows_of(torch.tensor(slots)))
    assert torch.allclose(y, expected, atol=1e-5)


def test_rows_beyond_the_batch_are_left_as_they_are():
    """vLLM gives buffers that are longer than what is asked."""
    slots = ORDERS["scattered"]
    y, x, weights = numbers(11, 6), numbers(11, 5), numbers(3, 1, 6, 5)
    before = y.clone()
    add_product(y, x, weights, rows_of(torch.tensor(slots)))
    assert torch.allclose(y[:8], plainly(before[:8], x, weights, slots), atol=1e-5)
    assert torch.equal(y[8:], before[8:])


class Known:
    """What is replaced: it knows whose the rows are, and its products must not be called."""

    def __init__(self, *given):
        self.given = given

    def update_metadata(self, tokens, sampled):
        self.token_lora_indices, self.sampler_indices = torch.tensor(tokens), torch.tensor(sampled)


@pytest.fixture
def wrapper(capfd):
    made = lora_cpu._replacement(Known)(8, "cpu")
    assert made.given == (8, "cpu")
    assert MARK in capfd.readouterr().out, "the engine reads it in the log"

    def of(tokens, sampled=()):
        made.update_metadata(tokens, list(sampled))
        return made

    return of


@EACH
def test_shrinking_begins_from_zeros(wrapper, slots):
    x, stacked = numbers(8, 5), (numbers(3, 1, 4, 5), numbers(3, 1, 4, 5) + 1)
    y = torch.full((2, 8, 4), 7.0)
    wrapper(slots).add_shrink(y, x, stacked, 0.5)
    for out, weights in zip(y, stacked, strict=True):
        assert torch.allclose(out, plainly(torch.zeros(8, 4), x, weights, slots, 0.5), atol=1e-5)


@EACH
@pytest.mark.parametrize("adds", [True, False])
def test_expanding_puts_each_projection_in_its_place(wrapper, slots, adds):
    x, stacked = numbers(2, 8, 4), (numbers(3, 1, 6, 4), numbers(3, 1, 2, 4))
    y = numbers(8, 10)
    before = y.clone()
    wrapper(slots).add_expand(y, x, stacked, (6, 2), offset_start=1, add_inputs=adds)
    for given, weights, place in zip(x, stacked, (slice(1, 7), slice(7, 9)), strict=True):
        start = before[:, place] if adds else torch.zeros_like(before[:, place])
        assert torch.allclose(y[:, place], plainly(start, given, weights, slots), atol=1e-5)
    assert torch.equal(y[:, [0, 9]], before[:, [0, 9]]), "what is beside them is another one's"


@EACH
@pytest.mark.parametrize("adds", [True, False])
def test_embeddings(wrapper, slots, adds):
    y, x, stacked = numbers(8, 6), numbers(8, 4), numbers(3, 1, 6, 4)
    before = y.clone() if adds else torch.zeros_like(y)
    wrapper(slots).add_lora_embedding(y, x, stacked, add_inputs=adds)
    assert torch.allclose(y, plainly(before, x, stacked, slots), atol=1e-5)


def test_logits_are_of_the_rows_that_are_sampled(wrapper):
    tokens, sampled = ORDERS["runs"], [-1, 2, 0, -1]
    y, x, a, b = numbers(4, 9), numbers(4, 5), numbers(3, 1, 3, 5), numbers(3, 1, 9, 3)
    between = plainly(torch.zeros(4, 3), x, a, sampled, 0.5)
    expected = plainly(y, between, b, sampled)
    wrapper(tokens, sampled).add_lora_logits(y, x, a, b, 0.5)
    assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("cpu", [True, False])
def test_it_is_put_in_place_once_and_on_a_cpu_alone(monkeypatch, cpu):
    wrappers = "vllm.lora.punica_wrapper"
    names = ("vllm", "vllm.platforms", "vllm.lora", wrappers, f"{wrappers}.punica_cpu")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules["vllm.platforms"].current_platform = SimpleNamespace(is_cpu=lambda: cpu)
    inside = modules[f"{wrappers}.punica_cpu"]
    modules[wrappers].punica_cpu = inside
    inside.PunicaWrapperCPU = Known
    lora_cpu.register()
    first = inside.PunicaWrapperCPU
    lora_cpu.register()  # in one process it may be called twice
    assert inside.PunicaWrapperCPU is first
    assert (first is not Known) is cpu
