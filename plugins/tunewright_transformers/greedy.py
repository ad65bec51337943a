"""Greedy decoding of many prompts: what some of them begin with is computed once, and rows are decoded in batches.

Where a model's attention is not ours to arrange, they share only what all begin with: a batch of like lengths is laid
out as `[that beginning][padding][a row's own tokens][its answer]`. Padding is masked and takes no position, so a row's
numbers are those that it has alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor

from tunewright_transformers.beginnings import Tree
from tunewright_transformers.branches import sharing
from tunewright_transformers.common import common, go_on
from tunewright_transformers.grown import Grown
from tunewright_transformers.kept import exceeded_window, keeps_keys
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
    model: Any, questions: Sequence[list[int]], limits: Sequence[int], stops: Collection[int], progress: Progress
) -> list[list[int]]:
    """Each question through `generate(do_sample=False)`, as a script with the library alone would ask it."""
    answers = []
    for question, limit in zip(questions, limits, strict=True):
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
    model: Any,
    questions: Sequence[list[int]],
    limits: Sequence[int],
    stops: Collection[int],
    budget: int,
    progress: Progress,
) -> list[list[int]]:
    """All questions, in batches of at most `budget` tokens each; answers, of at most so many tokens as the limit of
    each, in the questions' order.

    What a row needs decides for that row alone: one that is so long that others beside it would be rotated otherwise is
    asked alone, one that a window cuts is asked in a padded batch, which shares what all in it begin with.
    """
    answers: list[list[int]] = [[] for _ in questions]
    done = 0
    for way, rows in _ways(model, questions, limits):
        asked, most = [questions[row] for row in rows], [limits[row] for row in rows]

        def heard(more: int, before: int = done) -> None:
            progress(before + more)

        if way is None:
            found = one_by_one(model, asked, most, stops, heard)
        else:
            found = _decode(way(model, asked, most, budget), model, asked, most, stops, heard)
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        done += len(rows)
    return answers


def _ways(
    model: Any, questions: Sequence[list[int]], limits: Sequence[int]
) -> Iterator[tuple[type[_Branching] | type[_Padded] | None, list[int]]]:
    """How rows are asked, None for one by one. In padded batches those of one limit: they share what all begin with."""
    needed = [len(question) + limit for question, limit in zip(questions, limits, strict=True)]
    # by length, of which there are few: a model's windows are read from a cache that is made for it
    turning = {most for most in set(needed) if rotates_by_length(model.config, most)}
    cut = {most for most in set(needed) - turning if exceeded_window(model, most) is not None}
    alone = [row for row, most in enumerate(needed) if most in turning]
    wide = [row for row, most in enumerate(needed) if most in cut]
    left = [row for row, most in enumerate(needed) if most not in turning | cut]
    if left:
        longest = max(left, key=lambda row: len(questions[row]))
        if sharing(model, max(needed[row] for row in left), questions[longest]):
            yield _Branching, left
        else:
            wide = sorted([*wide, *left])
    for limit in sorted({limits[row] for row in wide}, reverse=True):
        yield _Padded, [row for row in wide if limits[row] == limit]
    if alone:
        yield None, alone


class _Branching:
    """Rows in a stream: when half of a batch has ended, others take their places. What rows share is computed once.

    The last token of a question stays its own: it asks for the next.
    """

    def __init__(self, model: Any, questions: Sequence[list[int]], limits: Sequence[int], budget: int) -> None:
        self.model, self.limits, self.budget = model, limits, budget
        self.grown = Grown(model, Tree([question[:-1] for question in questions]))
        self.further = [1 + limit for limit in limits]
        self.begun = 0
        self.batch: Batch | None = None

    def more(self, going: Sequence[int], answers: Sequence[list[int]]) -> list[int]:
        """Rows that go on from now on, behind those that are going."""
        tree = self.grown.tree
        got = {row: len(answers[row]) for row in going}
        count = tree.fitting(self.begun, self.further, self.budget, got)
        rows = tree.order[self.begun : self.begun + count]
        # those that are going are copied once more: not for few, unless these are the last
        if not rows or count < min(len(going), len(tree.order) - self.begun):
            return []
        self.begun += count
        if not going:
            self.batch = None  # not held while the next one is made
        for _ in self.grown.grow(rows):
            pass
        room = max(self.limits[row] - len(answers[row]) for row in [*going, *rows])
        pieces = [self.grown.own(row) for row in rows]
        if self.batch is not None:
            self.batch.join(pieces, room)
        else:
            self.batch = Batch(self.model, pieces, room)
        return rows

    def step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row [rows]; logits [rows, V] of what comes next."""
        assert self.batch is not None  # rows are going
        return self.batch.step(inputs)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        assert self.batch is not None
        self.batch.select(rows)


class _Padded:
    """Batches one after the other, in a cache of the library's, padded before what is a row's own."""

    def __init__(self, model: Any, questions: Sequence[list[int]], limits: Sequence[int], budget: int) -> None:
        self.model, self.questions = model, questions
        further = max(limits, default=0)
        self.shared = common(model, questions, further)
        self.cache: DynamicCache | None = None
        self.parts = batches([len(question) for question in questions], further, budget)

    def more(self, going: Sequence[int], answers: Sequence[list[int]]) -> list[int]:
        """Rows that go on from now on: of the next batch, when all of one have ended."""
        rows = [] if going else next(self.parts, [])
        if rows:
            ids, mask = padded([self.questions[row] for row in rows], self.model.device, self.shared.tokens)
            self.mask = mask[:, :-1]
            self.cache = None  # not held while the next one is made
            self.cache = self.shared.cache(self.model, len(rows))
            # Up to the last token only keys and values are wanted, so the backbone runs alone: a head on the last
            # position of each row would copy its weight once a row.
            if ids.shape[1] - self.shared.tokens > 1:
                go_on(self.model.base_model, ids[:, self.shared.tokens : -1], self.mask, self.cache)
        return rows

    def step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row [rows]; logits [rows, V] of what comes next."""
        assert self.cache is not None
        self.mask = torch.cat([self.mask, torch.ones_like(inputs[:, None])], 1)
        logits: torch.Tensor = go_on(self.model, inputs[:, None], self.mask, self.cache).logits[:, -1]
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        assert self.cache is not None  # rows are going
        kept = torch.tensor(rows, device=self.model.device)
        self.cache.batch_select_indices(kept)
        self.mask = self.mask[kept]


def batches(lengths: Sequence[int], limit: int, budget: int) -> Iterator[list[int]]:
    """Places of the questions, longest first: too little memory shows in the first batch, not in the last."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        size = max(1, budget // (lengths[order[0]] + limit))
        yield order[:size]
        order = order[size:]


def _decode(
    way: _Branching | _Padded,
    model: Any,
    questions: Sequence[list[int]],
    limits: Sequence[int],
    stops: Collection[int],
    progress: Progress,
) -> list[list[int]]:
    """All answers. Rows that have ended, or have their limit, leave, so that a long answer makes no short one wait."""
    penalty = getattr(model.generation_config, "repetition_penalty", None) or 1.0
    shape = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else lambda ids, scores: scores
    answers: list[list[int]] = [[] for _ in questions]
    going: list[int] = []
    said = torch.empty(0)
    ended = 0
    while True:
        if new := way.more(going, answers):
            going += new
            said, _ = padded([[*questions[row], *answers[row]] for row in going], model.device)
        elif not going:
            return answers
        before = len(going)
        while len(going) == before:
            chosen = shape(said, way.step(said[:, -1]).float()).argmax(-1)
            tokens = chosen.tolist()
            for row, token in zip(going, tokens, strict=True):
                answers[row].append(token)
            said = torch.cat([said, chosen[:, None]], 1)
            stay = [
                place
                for place, (row, token) in enumerate(zip(going, tokens, strict=True))
                if token not in stops and len(answers[row]) < limits[row]
            ]
            going = [going[place] for place in stay]
        if going:
            way.select(stay)
            said = said[stay]
        ended += before - len(going)
        progress(ended)


def padded(questions: Sequence[list[int]], device: Any, shared: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [rows, longest], padded after the `shared` first tokens with a token that the row holds.

    So the set of a row's tokens, from which the repetition penalty is computed, stays its own.
    """
    width = max(map(len, questions))
    pads = [width - len(question) for question in questions]
    ids = [[*q[:shared], *[q[0]] * pad, *q[shared:]] for q, pad in zip(questions, pads, strict=True)]
    mask = [[*[1] * shared, *[0] * pad, *[1] * (width - shared - pad)] for pad in pads]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
