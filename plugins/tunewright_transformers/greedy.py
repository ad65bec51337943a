"""Greedy decoding of many prompts: what they share is computed once, the rest in batches of like lengths.

A batch is laid out as `[shared prefix][padding][a row's own tokens][its answer]`. Padding is masked and takes no
position, so a row's numbers are those that it has alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor
from transformers.cache_utils import DynamicLayer

SHARED = 8
"""Fewest common tokens for which a pass of their own pays."""

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
    return not asks and _keeps_keys(model)


def _keeps_keys(model: Any) -> bool:
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=model.config).layers)


class Shared(NamedTuple):
    """What all rows begin with: how many tokens, and their keys and values for one row (None where there are none)."""

    tokens: int
    prefix: DynamicCache | None

    def of(self, model: Any, rows: int) -> DynamicCache:
        """A cache for a batch of so many rows, which may grow."""
        cache = DynamicCache(config=model.config) if self.prefix is None else copy.deepcopy(self.prefix)
        cache.batch_repeat_interleave(rows)
        return cache

    def go_on(self, backbone: Any, inputs: torch.Tensor, mask: torch.Tensor) -> Any:
        """The backbone's output for what follows the shared tokens of `inputs`, [rows, longest - shared, H]."""
        if self.prefix is None:
            return backbone(input_ids=inputs, attention_mask=mask, use_cache=False)
        return _run(backbone, inputs[:, self.tokens :], mask, self.of(backbone, len(inputs)))


def share(model: Any, questions: Sequence[list[int]], limit: int) -> Shared:
    """Compute what the questions begin with, where that pays; `limit` is how many tokens follow one at the most."""
    tokens = shareable(model, questions, limit) if _keeps_keys(model) else 0
    return Shared(tokens, _prefix(model, questions[0][:tokens]) if tokens else None)


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
    """All questions, in batches of at most `budget` tokens each; answers in the questions' order."""
    shared = share(model, questions, limit)
    answers: list[list[int]] = [[] for _ in questions]
    done = 0
    for rows in batches([len(question) for question in questions], limit, budget):
        found = _answer(model, shared, [questions[row] for row in rows], limit, stops)
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        done += len(rows)
        progress(done)
    return answers


def shareable(model: Any, questions: Sequence[list[int]], limit: int) -> int:
    """How many first tokens to compute once: those common to all, but each row keeps one of its own.

    0 where sharing does not pay, and where a window is shorter than the longest row: a window counts the padding
    between prefix and row, so rows would see less of the prefix than they do alone.
    """
    if len(questions) < 2:
        return 0
    shortest = min(map(len, questions))
    common = next((at for at, ids in enumerate(zip(*questions, strict=False)) if len(set(ids)) > 1), shortest)
    common = min(common, shortest - 1)
    longest = max(map(len, questions)) + limit
    windows = [layer.sliding_window for layer in DynamicCache(config=model.config).layers if layer.is_sliding]
    return common if common >= SHARED and longest <= min(windows, default=longest) else 0


def batches(lengths: Sequence[int], limit: int, budget: int) -> Iterator[list[int]]:
    """Places of the questions, longest first: too little memory shows in the first batch, not in the last."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        size = max(1, budget // (lengths[order[0]] + limit))
        yield order[:size]
        order = order[size:]


def _prefix(model: Any, ids: list[int]) -> DynamicCache:
    """Keys and values of the shared tokens, for one row."""
    cache = DynamicCache(config=model.config)
    inputs = torch.tensor([ids], device=model.device)
    _run(model.base_model, inputs, torch.ones_like(inputs), cache)
    return cache


def _run(model: Any, inputs: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> Any:
    """The output of `model`, or of its backbone, for further tokens; the cache grows by them.

    `inputs` are token ids [rows, new]; `mask` is 1 where a token counts [rows, past + new]. A position is the number
    of tokens that count before it.
    """
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
    passed = {_cache_argument(model): cache}
    return model(input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=True, **passed)


def _cache_argument(model: Any) -> str:
    """transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _answer(
    model: Any, shared: Shared, questions: Sequence[list[int]], limit: int, stops: Collection[int]
) -> list[list[int]]:
    """One batch. Rows that have ended leave it, so that a long answer does not make the short ones wait."""
    said, mask = _padded(questions, shared.tokens, model.device)
    cache = shared.of(model, len(questions))
    penalty = getattr(model.generation_config, "repetition_penalty", None) or 1.0
    shape = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else lambda ids, scores: scores
    answers: list[list[int]] = [[] for _ in questions]
    # Up to the last token only keys and values are wanted, so the backbone runs alone: a head on the last position of
    # each row would copy its weight once a row.
    if said.shape[1] - shared.tokens > 1:
        _run(model.base_model, said[:, shared.tokens : -1], mask[:, :-1], cache)
    going, inputs = list(range(len(questions))), said[:, -1:]
    for _ in range(limit):
        chosen = shape(said, _run(model, inputs, mask, cache).logits[:, -1].float()).argmax(-1)
        tokens = chosen.tolist()
        for row, token in zip(going, tokens, strict=True):
            answers[row].append(token)
        stay = [place for place, token in enumerate(tokens) if token not in stops]
        if not stay:
            break
        if len(stay) < len(going):
            kept = torch.tensor(stay, device=model.device)
            cache.batch_select_indices(kept)
            said, mask, chosen = said[kept], mask[kept], chosen[kept]
            going = [going[place] for place in stay]
        inputs = chosen[:, None]
        said, mask = torch.cat([said, inputs], 1), torch.cat([mask, torch.ones_like(inputs)], 1)
    return answers


def _padded(questions: Sequence[list[int]], shared: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [rows, longest]. A row is padded after the prefix with a token that it already holds.

    So the set of a row's tokens, from which the repetition penalty is computed, stays its own.
    """
    width = max(map(len, questions))
    pads = [width - len(question) for question in questions]
    ids = [[*q[:shared], *[q[0]] * pad, *q[shared:]] for q, pad in zip(questions, pads, strict=True)]
    mask = [[*[1] * shared, *[0] * pad, *[1] * (width - shared - pad)] for pad in pads]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
