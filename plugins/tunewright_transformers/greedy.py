"""Greedy decoding of many prompts: what some of them begin with is computed once, and rows are decoded in batches.

Where a model's attention is not ours to arrange, they share only what all begin with: a batch of like lengths is laid
out as `[that beginning][padding][a row's own tokens][its answer]`. Padding is masked and takes no position, so a row's
numbers are those that it has alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from transformers import RepetitionPenaltyLogitsProcessor

from tunewright_transformers.beginnings import Tree
from tunewright_transformers.branches import sharing
from tunewright_transformers.common import Common, common, go_on
from tunewright_transformers.grown import Grown
from tunewright_transformers.kept import keeps_keys
from tunewright_transformers.rotary import rotates_by_length
from tunewright_transformers.row_batch import Batch

# settings of a model's generation config that change which token is likeliest, and that only `generate` knows
SHAPING = (
    "bad_words_ids", "begin_suppress_tokens", "dola_layers", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "guidance_scale", "min_length", "min_new_tokens", "no_repeat_ngram_size", "sequence_bias",
    "stop_strings", "suppress_tokens",
)  # fmt: skip

Progress = Callable[[int], None]


def batchable(model: Any) -> bool:
    """Whether every layer keeps keys and values, which can be shared and padded, and the model asks no more."""
    asks = any(getattr(model.generation_config, name, None) for name in SHAPING)
    return not asks and keeps_keys(model)


@torch.no_grad()
def one_by_one(
    model: Any, questions: Sequence[list[int]], limit: int, stops: Collection[int], progress: Progress
) -> list[list[int]]:
    """Each question through `generate(do_sample=False)`, as a script with the library alone would ask it."""
    answers = []
    for question in questions:
        ids = torch.tensor([question], device=model.device)
        ending = {"eos_token_id": sorted(stops), "pad_token_id": min(stops)} if stops else {}
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            **ending,
        )
        answers.append(made[0, len(question) :].tolist())
        progress(len(answers))
    return answers


@torch.no_grad()
def in_batches(
    model: Any, questions: Sequence[list[int]], limit: int, stops: Collection[int], budget: int, progress: Progress
) -> list[list[int]]:
    """All questions, in batches of at most `budget` tokens each; answers in the questions' order.

    One by one where the longest of a batch would change how the others are rotated.
    """
    longest = max(questions, key=len, default=[])
    if rotates_by_length(model.config, len(longest) + limit):
        return one_by_one(model, questions, limit, stops, progress)
    if sharing(model, len(longest) + limit, longest):
        return _in_branches(model, questions, limit, stops, budget, progress)
    shared = common(model, questions, limit)
    answers: list[list[int]] = [[] for _ in questions]
    done = 0
    for rows in batches([len(question) for question in questions], limit, budget):
        said, mask = padded([questions[row] for row in rows], model.device, shared.tokens)
        found = _decode(_Plain(model, said, mask, shared), model, said, limit, stops)
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        done += len(rows)
        progress(done)
    return answers


def _in_branches(
    model: Any, questions: Sequence[list[int]], limit: int, stops: Collection[int], budget: int, progress: Progress
) -> list[list[int]]:
    """The same, what questions begin with computed once. The last token of each stays its own: it asks for the next."""
    grown = Grown(model, Tree([question[:-1] for question in questions]))
    answers: list[list[int]] = [[] for _ in questions]
    done = 0
    for rows in grown.tree.batches(1 + limit, budget):
        for _ in grown.grow(rows):
            pass
        said, _ = padded([questions[row] for row in rows], model.device)
        batch = Batch(model, [grown.own(row) for row in rows], limit)
        found = _decode(batch, model, said, limit, stops)
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        done += len(rows)
        progress(done)
    return answers


def batches(lengths: Sequence[int], limit: int, budget: int) -> Iterator[list[int]]:
    """Places of the questions, longest first: too little memory shows in the first batch, not in the last."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        size = max(1, budget // (lengths[order[0]] + limit))
        yield order[:size]
        order = order[size:]


class _Plain:
    """Rows in a cache of the library's, padded before what is their own."""

    def __init__(self, model: Any, ids: torch.Tensor, mask: torch.Tensor, shared: Common) -> None:
        self.model, self.mask = model, mask[:, :-1]
        self.cache = shared.cache(model, len(ids))
        # Up to the last token only keys and values are wanted, so the backbone runs alone: a head on the last position
        # of each row would copy its weight once a row.
        if ids.shape[1] - shared.tokens > 1:
            go_on(model.base_model, ids[:, shared.tokens : -1], self.mask, self.cache)

    def step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row [rows]; logits [rows, V] of what comes next."""
        self.mask = torch.cat([self.mask, torch.ones_like(inputs[:, None])], 1)
        logits: torch.Tensor = go_on(self.model, inputs[:, None], self.mask, self.cache).logits[:, -1]
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        kept = torch.tensor(rows, device=self.model.device)
        self.cache.batch_select_indices(kept)
        self.mask = self.mask[kept]


def _decode(
    batch: Batch | _Plain, model: Any, said: torch.Tensor, limit: int, stops: Collection[int]
) -> list[list[int]]:
    """One batch, of which all but the last token of `said` [rows, longest] has been fed. Rows that have ended leave it,
    so that a long answer does not make the short ones wait."""
    penalty = getattr(model.generation_config, "repetition_penalty", None) or 1.0
    shape = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else lambda ids, scores: scores
    answers: list[list[int]] = [[] for _ in said]
    going, chosen = list(range(len(said))), said[:, -1]
    for _ in range(limit):
        chosen = shape(said, batch.step(chosen).float()).argmax(-1)
        tokens = chosen.tolist()
        for row, token in zip(going, tokens, strict=True):
            answers[row].append(token)
        stay = [place for place, token in enumerate(tokens) if token not in stops]
        if not stay:
            break
        if len(stay) < len(going):
            batch.select(stay)
            said, chosen = said[stay], chosen[stay]
            going = [going[place] for place in stay]
        said = torch.cat([said, chosen[:, None]], 1)
    return answers


def padded(questions: Sequence[list[int]], device: Any, shared: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [rows, longest], padded after the `shared` first tokens with a token that the row holds.

    So the set of a row's tokens, from which the repetition penalty is computed, stays its own.
    """
    width = max(map(len, questions))
    pads = [width - len(question) for question in questions]
    ids = [[*q[:shared], *[q[0]] * pad, *q[shared:]] for q, pad in zip(questions, pads, strict=True)]
    mask = [[*[1] * shared, *[0] * pad, *[1] * (width - shared - pad)] for pad in pads]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
