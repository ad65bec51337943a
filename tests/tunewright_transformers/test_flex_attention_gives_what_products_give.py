"""Over a prefix tree torch's `flex_attention` gives what our products give, forwards and backwards. On a CPU, in eager
mode, where it makes every score: the kernel that a GPU would compile is not run here."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention as torchs

from tunewright_transformers import flex
from tunewright_transformers.flex import BLOCK, FlexLayout, depth_first, mask_of
from tunewright_transformers.prefix import Tree, tree_of
from tunewright_transformers.tree_attention import Layout


@pytest.fixture(autouse=True)
def gradients_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses gradients on a CPU, for its compiled kernel has none there; its eager form has them."""
    torch._dynamo.reset()  # it is traced for a few shapes only
    monkeypatch.setattr(torchs, "_validate_device", lambda *given: None)


def grown(rows: list[list[int]], least: int = 2) -> Tree:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return tree_of(ids, torch.tensor([len(row) for row in rows]), least)


def levels(seed: int) -> Tree:
    """Documents after one instruction, questions after documents, answers after questions; one row begins another."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(1000) for _ in range(count)]

    rows = [tokens(70), tokens(3)]
    instruction = tokens(draw.randint(3, 160))
    for _ in range(3):
        document = instruction + tokens(draw.randint(2, 40))
        for _ in range(3):
            question = document + tokens(draw.randint(2, 12))
            rows += [question, *(question + tokens(draw.randint(1, 9)) for _ in range(3))]
    draw.shuffle(rows)
    return grown(rows)


TREES = {
    "levels": lambda: levels(0), "other levels": lambda: levels(1), "a short row": lambda: grown([[4, 5, 6]]),
    "a long row": lambda: grown([list(range(300))]), "a row twice": lambda: grown([[7, 8, 9, 9]] * 2),
}  # fmt: skip


def seen(tree: Tree) -> torch.Tensor:
    """Which token sees which [N, N], by the rows alone: what stands before it in a row that it is in."""
    found = torch.zeros(len(tree), len(tree), dtype=torch.bool)
    for line, row in zip(tree.where.tolist(), tree.where, strict=True):
        length = next((place for place in range(1, len(line)) if tree.positions[line[place]] != place), len(line))
        places = row[:length]
        found[places[:, None], places] = torch.ones(length, length, dtype=torch.bool).tril()
    return found


def attended(kind: type[Layout], tree: Tree, heads: int, groups: int) -> torch.Tensor:
    """Out and the gradients of query, key and value, each token's with a weight of its own."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((heads, 1), (groups, 1), (groups, 1), (heads, 0))
    *given, weights = (torch.randn(len(tree), n, 16, generator=draw).requires_grad_(bool(g)) for n, g in shapes)
    layout = kind(tree, heads, "cpu")
    laid = (layout.laid(one).transpose(0, 1)[None] for one in given)
    out = layout.back(layout.attend(*laid, 0.3)[0])
    slopes = torch.autograd.grad((out * weights).sum(), given)
    return torch.cat([one.detach().flatten() for one in (out, *slopes)])


def apart(tree: Tree, heads: int = 6, groups: int = 2) -> float:
    ours, theirs = (attended(kind, tree, heads, groups) for kind in (Layout, FlexLayout))
    return float((ours - theirs).norm() / ours.norm())


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("tree", TREES)
def test_out_and_gradients_are_the_same(tree: str, heads: int, groups: int) -> None:
    assert apart(TREES[tree](), heads, groups) < 1e-5


@pytest.mark.parametrize("tree", TREES)
def test_a_token_sees_its_path_up_to_itself_and_nothing_else(tree: str) -> None:
    some = TREES[tree]()
    order, ends = depth_first(some)
    assert sorted(order.tolist()) == list(range(len(some)))
    place = torch.arange(len(some))
    masked = (place <= place[:, None]) & (place[:, None] < ends)
    assert torch.equal(masked, seen(some)[order[:, None], order])


@pytest.mark.parametrize("tree", TREES)
def test_blocks_are_those_of_the_whole_mask(tree: str) -> None:
    """The eager form reads no blocks, the compiled one does: torch works them out of every pair of tokens."""
    layout = FlexLayout(TREES[tree](), 1, "cpu")
    size = layout.tokens
    whole = torchs.create_block_mask(layout.mask.mask_mod, None, None, size, size, device="cpu", BLOCK_SIZE=BLOCK)
    assert (layout.mask.shape, layout.mask.BLOCK_SIZE) == (whole.shape, whole.BLOCK_SIZE)
    for name in ("kv", "full_kv", "q", "full_q"):
        counts, indices = (getattr(layout.mask, f"{name}_{what}") for what in ("num_blocks", "indices"))
        assert torch.equal(counts, getattr(whole, f"{name}_num_blocks")), name
        for block, count in enumerate(counts[0, 0].tolist()):  # what stands beyond the count is not read
            other = getattr(whole, f"{name}_indices")[0, 0, block, :count]
            assert torch.equal(indices[0, 0, block, :count], other), name


def test_the_sequence_is_filled_up_to_two_blocks_or_more() -> None:
    assert [FlexLayout(grown([list(range(n))]), 1, "cpu").tokens for n in (1, 128, 256, 257)] == [256, 256, 256, 384]


@pytest.mark.parametrize("wrong", ["siblings", "what comes after", "a place"])
def test_a_fault_of_the_mask_would_be_seen(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    tree = TREES["levels"]()
    assert apart(tree) < 1e-5

    def siblings(ends: torch.Tensor, device: Any) -> Any:
        return mask_of(torch.full_like(ends, len(ends)), device)  # each is seen by all that come after

    def later(ends: torch.Tensor, device: Any) -> Any:
        mask = mask_of(ends, device)
        mask.mask_mod = lambda batch, head, asking, asked: (asked <= asking + 1) & (asking < ends[asked])
        return mask

    def shifted(some: Tree) -> tuple[torch.Tensor, torch.Tensor]:
        order, ends = depth_first(some)
        return order.roll(1), ends

    name, fault = {
        "siblings": ("mask_of", siblings), "what comes after": ("mask_of", later), "a place": ("depth_first", shifted),
    }[wrong]  # fmt: skip
    monkeypatch.setattr(flex, name, fault)
    assert apart(tree) > 1e-3
