"""How likely given answers are, token by token: what rows begin with is computed once, the LM head where it is needed.

So the choices of a question are a tree of continuations: its prompt is computed once, and a choice of one token costs
a number of the logits there. Where a model's attention is not ours to arrange, rows share what all prompts begin with,
and go in batches of like lengths, padded on the right, where causal attention never looks back from. Either way a row's
numbers are those that it has alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from tunewright.errors import WorkFailed
from tunewright.parts.engine import Continuation
from tunewright_transformers.beginnings import Tree
from tunewright_transformers.branches import sharing
from tunewright_transformers.common import Common, common, go_on
from tunewright_transformers.greedy import batches
from tunewright_transformers.grown import Grown
from tunewright_transformers.passes import Pass, feed, passes
from tunewright_transformers.rotary import rotates_by_length

LOGITS_AT_ONCE = 1 << 24
"""Logits held in fp32 at once: 64 MiB, whatever the vocabulary."""
PROBE = 8
"""Tokens on which the head alone is set against the model."""

Progress = Callable[[int], None]


class Head(NamedTuple):
    """The LM head, hidden states in and logits of `vocabulary` tokens out."""

    module: Any
    vocabulary: int


@torch.no_grad()
def scores(model: Any, rows: Sequence[Continuation], budget: int | None, progress: Progress) -> list[list[float]]:
    """Log-probabilities in nats of each row's answer, in the rows' order.

    In batches of at most `budget` tokens, padding counted; with None, or where the head alone does not give the
    model's logits, or the longest row of a batch changes how others are rotated, row by row through the model's own
    forward.
    """
    longest = max((_all(row) for row in rows), key=len, default=[])
    batched = budget is not None and rows and not rotates_by_length(model.config, len(longest))
    head = plain_head(model, rows[0]) if batched else None
    if head is not None and sharing(model, len(longest), longest):
        return _in_branches(model, head, rows, budget or 1, progress)
    answer = max((len(row.answer) for row in rows), default=0)
    shared = Common() if head is None else common(model, [row.prompt for row in rows], answer)
    lengths = [len(_all(row)) for row in rows]
    parted = [[place] for place in range(len(rows))] if head is None else batches(lengths, 0, budget or 1)
    found: list[list[float]] = [[] for _ in rows]
    done = 0
    for places in parted:
        some = [rows[place] for place in places]
        scored = [_alone(model, some[0])] if head is None else _batch(model, head, shared, some)
        for place, values in zip(places, scored, strict=True):
            found[place] = _finite(values, rows[place], place)
        done += len(places)
        progress(done)
    return found


class _Read(NamedTuple):
    """Hidden states that some rows have in common: those of a pass from `start` on, for the positions `begin:end`."""

    rows: Sequence[int]
    begin: int
    end: int
    start: int


def _in_branches(
    model: Any, head: Head, rows: Sequence[Continuation], budget: int, progress: Progress
) -> list[list[float]]:
    """The same, what rows begin with computed once."""
    grown = Grown(model, Tree([_fed(row) if row.answer else [] for row in rows]))
    tree, found = grown.tree, [[0.0] * len(row.answer) for row in rows]
    done = 0
    for places in tree.batches(0, budget):
        for segments, made in grown.grow(places):
            parts = [tree.segments[each] for each in segments]
            reads = zip(parts, made.starts, strict=True)
            _read(head, made, [_Read(part.rows, part.begin, part.end, start) for part, start in reads], rows, found)
        pieces = [grown.own(place) for place in places]
        for chosen in passes(pieces):
            some = [pieces[each] for each in chosen]
            made = feed(model, some)
            alone = zip(chosen, some, made.starts, strict=True)
            ends = [_Read([places[at]], piece.begin, piece.begin + len(piece.ids), start) for at, piece, start in alone]
            _read(head, made, ends, rows, found)
        for place in places:
            _finite(found[place], rows[place], place)
        done += len(places)
        progress(done)
    return found


def _read(
    head: Head, made: Pass, reads: Sequence[_Read], rows: Sequence[Continuation], found: list[list[float]]
) -> None:
    """Put into `found` what a pass tells of the rows' answers. Where several rows ask one place, the head runs once."""
    asked: dict[int, list[tuple[int, int]]] = {}  # by place in the pass: a row, and which token of its answer
    for places, begin, end, start in reads:
        for place in places:
            first = len(rows[place].prompt) - 1  # the last token of the prompt tells of the answer's first
            for position in range(max(first, begin), min(first + len(rows[place].answer), end)):
                asked.setdefault(start + position - begin, []).append((place, position - first))
    where = torch.tensor(list(asked), device=made.hidden.device, dtype=torch.long)
    owners = [(at, *owner) for at, some in enumerate(asked.values()) for owner in some]
    targets = [(at, rows[place].answer[token]) for at, place, token in owners]
    for (_, place, token), value in zip(owners, _by_chunks(head, made.hidden[where], targets), strict=True):
        found[place][token] = value


@torch.no_grad()
def likeliest(model: Any, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
    """The `top` likeliest tokens in the place of each token of each row's answer, by id, with log-probabilities."""
    return [_top(_answer_logits(model, row), top, row, place) for place, row in enumerate(rows)]


def plain_head(model: Any, row: Continuation) -> Head | None:
    """The LM head, if the model's logits are the head over its last hidden state and nothing more; else None.

    Some models scale or cap their logits afterwards (Cohere, Granite, Gemma 2). Told by trying it, not by a list.
    """
    module = model.get_output_embeddings()
    if module is None:
        return None
    inputs = torch.tensor([[*row.prompt, *row.answer][:PROBE]], device=model.device)
    hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
    logits = model(input_ids=inputs, use_cache=False).logits
    return Head(module, logits.shape[-1]) if torch.equal(module(hidden).float(), logits.float()) else None


def _alone(model: Any, row: Continuation) -> list[float]:
    """As a script with the library alone would do it."""
    return _chosen(_answer_logits(model, row), _targets(row, model.device))


def _answer_logits(model: Any, row: Continuation) -> torch.Tensor:
    """The logits [N, V] of the places of a row's N answer tokens."""
    inputs = torch.tensor([[*row.prompt, *row.answer]], device=model.device)
    logits: torch.Tensor = model(input_ids=inputs, use_cache=False).logits[0, len(row.prompt) - 1 : -1]
    return logits


def _top(logits: torch.Tensor, top: int, row: Continuation, place: int) -> list[dict[int, float]]:
    values, ids = logits.float().log_softmax(-1).topk(min(top, logits.shape[-1]))
    found = [dict(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
    _finite([max(each.values()) for each in found], row, place)
    return found


def _all(row: Continuation) -> list[int]:
    return [*row.prompt, *row.answer]


def _fed(row: Continuation) -> list[int]:
    """The last token of a row is left out: nothing is asked of what follows it."""
    return _all(row)[:-1] or row.prompt


def _batch(model: Any, head: Head, shared: Common, rows: Sequence[Continuation]) -> list[list[float]]:
    """One batch: the backbone over what is not shared, the head over the positions that predict an answer."""
    inputs, mask = _padded(rows, model.device)
    if shared.kept is None:
        hidden = model.base_model(input_ids=inputs, attention_mask=mask, use_cache=False).last_hidden_state
    else:
        cache = shared.cache(model, len(rows))
        hidden = go_on(model.base_model, inputs[:, shared.tokens :], mask, cache).last_hidden_state
    first = [len(row.prompt) - 1 - shared.tokens for row in rows]
    spans = [torch.arange(at, at + len(row.answer), device=model.device) for at, row in zip(first, rows, strict=True)]
    wanted = torch.cat([hidden[place, span] for place, span in enumerate(spans)])
    targets = [token for row in rows for token in row.answer]
    values = iter(_by_chunks(head, wanted, list(enumerate(targets))))
    return [[next(values) for _ in row.answer] for row in rows]


def _padded(rows: Sequence[Continuation], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [rows, longest]."""
    fed = [_fed(row) for row in rows]
    width = max(map(len, fed))
    ids = [[*row, *[row[-1]] * (width - len(row))] for row in fed]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in fed]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _targets(row: Continuation, device: Any) -> torch.Tensor:
    return torch.tensor(row.answer, device=device, dtype=torch.long)


def _by_chunks(head: Head, hidden: torch.Tensor, targets: Sequence[tuple[int, int]]) -> list[float]:
    """Log-probability of each target, a place in hidden states [N, H] and a token, places in order.

    At most `LOGITS_AT_ONCE` logits at once.
    """
    size = max(1, LOGITS_AT_ONCE // head.vocabulary)
    places, tokens = torch.tensor(targets, device=hidden.device, dtype=torch.long).reshape(-1, 2).T
    found: list[float] = []
    for start in range(0, len(hidden), size):
        here = (start <= places) & (places < start + size)
        logits = head.module(hidden[start : start + size]).float()
        picked = logits[places[here] - start, tokens[here]]
        found += (picked - logits.logsumexp(-1)[places[here] - start]).tolist()
    return found


def _chosen(logits: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """log softmax of logits [N, V] at targets [N]. In fp32: bf16 keeps two or three digits of a logit."""
    logits = logits.float()
    picked = logits.gather(-1, targets[:, None])[:, 0]
    values: list[float] = (picked - logits.logsumexp(-1)).tolist()
    return values


def _finite(values: list[float], row: Continuation, place: int) -> list[float]:
    if all(map(math.isfinite, values)):
        return values
    raise WorkFailed(
        f"{row.origin or f'row {place + 1}'}: the model's log-probabilities are no finite numbers",
        fix="its weights are damaged, or its type overflows: fp16 does where bf16 and fp32 do not",
    )
