"""How likely given answers are, token by token: what all prompts begin with is computed once, rows in batches of like
lengths, the LM head where it is needed.

A batch is padded on the right, where causal attention never looks back from, so a row's numbers are those that it has
alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from tunewright.errors import WorkFailed
from tunewright.parts.engine import Continuation
from tunewright_transformers.greedy import Shared, batches, share

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
    model's logits, row by row through the model's own forward.
    """
    head = plain_head(model, rows[0]) if budget is not None and rows else None
    shared = Shared(0, None) if head is None else share(model, [row.prompt for row in rows], _longest_answer(rows))
    lengths = [len(row.prompt) + len(row.answer) for row in rows]
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
    return _chosen(_answer_logits(model, row), _targets([row], model.device))


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


def _longest_answer(rows: Sequence[Continuation]) -> int:
    return max(len(row.answer) for row in rows)


def _batch(model: Any, head: Head, shared: Shared, rows: Sequence[Continuation]) -> list[list[float]]:
    """One batch: the backbone over what is not shared, the head over the positions that predict an answer."""
    inputs, mask = _padded(rows, model.device)
    hidden = shared.go_on(model.base_model, inputs, mask).last_hidden_state
    spans = [torch.arange(len(row.answer), device=model.device) + len(row.prompt) - 1 - shared.tokens for row in rows]
    wanted = torch.cat([hidden[place, span] for place, span in enumerate(spans)])
    values = iter(_by_chunks(head, wanted, _targets(rows, model.device)))
    return [[next(values) for _ in row.answer] for row in rows]


def _padded(rows: Sequence[Continuation], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [rows, longest]. The last token of a row is left out: nothing is asked of what follows it."""
    fed = [[*row.prompt, *row.answer][:-1] or row.prompt for row in rows]
    width = max(map(len, fed))
    ids = [[*row, *[row[-1]] * (width - len(row))] for row in fed]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in fed]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _targets(rows: Sequence[Continuation], device: Any) -> torch.Tensor:
    return torch.tensor([token for row in rows for token in row.answer], device=device, dtype=torch.long)


def _by_chunks(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Log-probability of each target [N] at its hidden state [N, H]; at most `LOGITS_AT_ONCE` logits at once."""
    size = max(1, LOGITS_AT_ONCE // head.vocabulary)
    starts = range(0, len(targets), size)
    parts = ((hidden[start : start + size], targets[start : start + size]) for start in starts)
    return [value for some, their in parts for value in _chosen(head.module(some), their)]


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
