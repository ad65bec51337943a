"""Attention over a prefix tree by torch's `flex_attention`: one fused kernel that passes over what no token sees.

The tree's tokens stand in depth-first order, each segment followed by all that is below it. So a token is seen by
itself and by those after it up to where its segment's descendants end: one number a token tells the whole mask.

Dong et al. 2024, https://arxiv.org/abs/2412.05496
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from tunewright_transformers.attention import Attending
from tunewright_transformers.prefix import Tree, tree_of
from tunewright_transformers.tree_attention import TREE, Layout, run
from tunewright_transformers.trial import EXACT, SLOPES, why_not

BLOCK = 128
"""Tokens of a block, of which the kernel leaves out those that nobody sees. A sequence is filled up to a multiple of it
and to two at least: what is compiled for one length then serves every other."""
LONG, MANY = 400, 2048
"""Tokens of a row on which the kernel is tried, and of such rows: more than two blocks, and blocks that see all."""
SAID = 300
"""Characters of what a compiler raises that are told."""


class FlexLayout(Layout):
    """A tree in depth-first order, filled up with tokens that see themselves alone, and its mask by blocks."""

    def __init__(self, tree: Tree, heads: int, device: Any) -> None:
        self.longest = int(tree.positions.max()) + 1
        order, ends = depth_first(tree)
        self.tokens = max(2, -(-len(order) // BLOCK)) * BLOCK
        filling = self.tokens - len(order)
        self.order = torch.cat([order, order.new_zeros(filling)])
        self.places = torch.argsort(order).to(device)
        self.mask = mask_of(torch.cat([ends, torch.arange(len(order), self.tokens) + 1]), device)

    def laid(self, of: torch.Tensor) -> torch.Tensor:
        """The tree's [N] in the order of the kernel."""
        return of[self.order]

    def back(self, found: torch.Tensor) -> torch.Tensor:
        """What was found [M, …] in the order of the tree, without the filling."""
        return found.index_select(0, self.places)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """As `Layout.attend`."""
        shared = query.shape[1] != key.shape[1]
        attended = _kernel(query.device.type)(query, key, value, block_mask=self.mask, scale=scaling, enable_gqa=shared)
        return attended.transpose(1, 2)


def depth_first(tree: Tree) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the tree's tokens, each segment followed by all below it [N]; in that order, where what follows on each
    token's segment ends [N]."""
    below: dict[int, list[tuple[int, int]]] = {}
    for block in tree.blocks:
        first, after = block.first, int(block.before[-1]) if len(block.before) else -1
        for length in block.lengths:
            below.setdefault(after, []).append((first, length))
            first += length
    line: list[tuple[int, int, int]] = []
    waiting = [(*segment, -1) for segment in below[-1]]
    while waiting:
        first, length, parent = waiting.pop()
        waiting += [(*segment, len(line)) for segment in below.get(first + length - 1, ())]
        line.append((first, length, parent))
    lengths = torch.tensor([length for _, length, _ in line])
    sizes = lengths.tolist()
    for place in reversed(range(len(line))):  # what is below stands after
        if (parent := line[place][2]) >= 0:
            sizes[parent] += sizes[place]
    order = torch.cat([torch.arange(first, first + length) for first, length, _ in line])
    return order, (lengths.cumsum(0) - lengths + torch.tensor(sizes)).repeat_interleave(lengths)


def mask_of(ends: torch.Tensor, device: Any) -> Any:
    """The `BlockMask` of tokens that are each seen from itself on up to its end [M]; M is a multiple of `BLOCK`.

    Worked out by blocks: torch's `create_block_mask` would make the mask of M × M tokens first.
    """
    from torch.nn.attention.flex_attention import BlockMask

    lasts, starts = ends.view(-1, BLOCK), torch.arange(0, len(ends), BLOCK)[:, None]
    earlier = starts > starts.T
    whole = earlier & (lasts.amin(1) >= starts + BLOCK)
    partly = (earlier & (lasts.amax(1) > starts) & ~whole) | (starts == starts.T)
    seen_up_to = ends.to(device)

    def sees(batch: Any, head: Any, asking: Any, asked: Any) -> Any:
        return (asked <= asking) & (asking < seen_up_to[asked])

    tables = (table.to(device) for seen in (partly, whole) for table in _listed(seen))
    return BlockMask.from_kv_blocks(*tables, BLOCK_SIZE=BLOCK, mask_mod=sees)


def _listed(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many blocks each block sees [1, 1, m], and which ones, those first [1, 1, m, m]."""
    which = torch.argsort(seen.int(), dim=1, descending=True, stable=True)
    return seen.sum(1).int()[None, None], which.int()[None, None]


@functools.cache
def _kernel(device: str) -> Any:
    """`flex_attention`, compiled; on a CPU as it is, where it makes every score."""
    from torch.nn.attention.flex_attention import flex_attention

    # `fullgraph`: what is not to be compiled is to say so, and not to make every score
    return flex_attention if device == "cpu" else torch.compile(flex_attention, fullgraph=True)


def not_by_flex(base: Any, longest: int) -> str:
    """Why trees of rows of up to `longest` tokens are not to be attended to by `FlexLayout` in this very model, which
    is not yet `Attending`; nothing where states and gradients are those by `Layout`.

    Asks the model over trees of two lengths: for the second the kernel is compiled as for all that follow.
    """
    vocabulary = base.config.get_text_config().vocab_size
    short, long = (tree_of(*_branching(rows, longest, vocabulary), least=1) for rows in (False, True))
    near = EXACT.get(base.dtype, SLOPES)
    for tree, slopes, allowed in ((short, False, None), (long, False, None), (long, True, near)):
        ours, theirs = (functools.partial(_asked, base, tree, slopes, kind) for kind in (Layout, FlexLayout))
        if why := why_not(theirs, ours, allowed, (Exception,)):  # a compiler, and a driver, raise errors of their own
            return " ".join(why.split())[:SAID]
    return ""


def _asked(base: Any, tree: Tree, slopes: bool, kind: type[Layout]) -> torch.Tensor:
    """The states of a tree's tokens [N, H]; or the gradient of a sum of them towards the embedded tokens."""
    embedded: list[torch.Tensor] = []

    def kept(module: Any, given: Any, found: torch.Tensor) -> torch.Tensor:
        embedded.append(found.detach().requires_grad_(slopes))
        return embedded[0]

    hook = base.get_input_embeddings().register_forward_hook(kept)
    try:
        with Attending(base, TREE) as attending, torch.set_grad_enabled(slopes):
            layout = kind(tree, attending.heads, base.device)
            states = run(base.base_model, tree, layout)
            if not slopes:
                return states
            weights = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
            return layout.back(torch.autograd.grad((states * weights).sum(), embedded)[0][0])
    finally:
        hook.remove()


def _branching(many: bool, longest: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One row, or as many as make a thousand tokens and share beginnings of two lengths: ids [B, L] and lengths [B]."""
    length = min(longest, LONG)
    row, place = torch.arange(max(3, MANY // length) if many else 1)[:, None], torch.arange(length)
    shared = torch.where(row % 2 == 1, 3 * length // 4, length // 4)
    return (7 * place + 5 + row * (place >= shared)) % vocabulary, torch.full((len(row),), length)
