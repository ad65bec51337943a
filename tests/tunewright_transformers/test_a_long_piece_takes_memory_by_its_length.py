"""What a pass over a long piece holds grows with its length and not with the square of it: counted, not timed."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tunewright_transformers import branch_attention
from tunewright_transformers.passes import Piece, feed

STEM, STEP = list(range(40, 60)), 32


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor) and not each._is_view():
                self.elements = max(self.elements, each.untyped_storage().nbytes() // each.element_size())
        return made


@pytest.fixture(scope="module")
def loaded(tiny_folder: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder()).eval()


def most(model: Any, tokens: int, below: bool) -> int:
    """The most elements in a pass over one piece of so many tokens, which may be below a path."""
    with torch.no_grad():
        path = (feed(model, [Piece(STEM, 0, ())]).kept,) if below else ()
        piece = Piece([token % 300 for token in range(tokens)], len(STEM) if below else 0, path)
        with Largest() as largest:
            feed(model, [piece])
    return largest.elements


@pytest.mark.parametrize("below", [False, True], ids=["a root", "below a path"])
def test_a_pass_over_one_piece(loaded: Any, below: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_attention, "STEP", STEP)
    widest = 128  # values a token: those of its MLP
    for tokens in (1024, 2048):
        assert most(loaded, tokens, below) <= widest * (tokens + len(STEM))


def test_masks_have_a_byte_a_pair_and_few_pairs(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces under one path are masked at once, a long one in parts."""
    monkeypatch.setattr(branch_attention, "STEP", STEP)
    masks, attention = [], branch_attention.attention

    def spy(*args: Any, attn_mask: Any = None, **others: Any) -> Any:
        masks.extend([] if attn_mask is None else [attn_mask])
        return attention(*args, attn_mask=attn_mask, **others)

    monkeypatch.setattr(branch_attention, "attention", spy)
    with torch.no_grad():
        path = (feed(loaded, [Piece(STEM, 0, ())]).kept,)
        feed(loaded, [Piece(list(range(3 + at, 23 + at)), len(STEM), path) for at in range(3)])
        feed(loaded, [Piece([token % 300 for token in range(400)], len(STEM), path)])
    assert {mask.dtype for mask in masks} == {torch.bool}
    assert max(mask.shape[0] for mask in masks[2:]) == STEP
    assert max(mask.numel() for mask in masks) <= STEP * (len(STEM) + 400)


def test_a_piece_in_parts_sees_what_it_sees_as_a_whole(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = [token * 7 % 300 for token in range(100)]
    with torch.no_grad():
        whole = loaded.model(input_ids=torch.tensor([STEM + row])).last_hidden_state[0, len(STEM) :]
        path = (feed(loaded, [Piece(STEM, 0, ())]).kept,)
        for step in (1, 33, 100, 256):
            monkeypatch.setattr(branch_attention, "STEP", step)
            found = feed(loaded, [Piece(row, len(STEM), path)]).hidden
            assert torch.allclose(found, whole, atol=1e-4), step
