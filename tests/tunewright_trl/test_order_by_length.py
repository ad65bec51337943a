"""An epoch holds every row once, in an order that a seed decides and batches of similar length."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tiny_training import ROWS

from tunewright_trl.order import ByLength

DRAW = random.Random(5)
LENGTHS = [DRAW.randint(5, 200) for _ in range(203)]


def epoch(seed: int, number: int = 0, a_step: int = 8) -> list[int]:
    sampler = ByLength(LENGTHS, a_step, seed)
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize("a_step", [1, 8, 64, 500])
def test_every_row_comes_once(a_step: int) -> None:
    assert sorted(epoch(0, a_step=a_step)) == list(range(len(LENGTHS)))


def test_the_seed_and_the_epoch_decide() -> None:
    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(0, number=0) != epoch(0, number=1)


def test_the_global_generator_neither_decides_nor_is_drawn_on() -> None:
    torch.manual_seed(1)
    first = epoch(0)
    state = torch.get_rng_state()
    assert epoch(0) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("batch_size", [8, 4, 2])
def test_a_batch_of_a_step_holds_rows_of_similar_length(batch_size: int) -> None:
    def padding(order: list[int]) -> int:
        starts = range(0, len(order), batch_size)
        batches = [[LENGTHS[row] for row in order[start : start + batch_size]] for start in starts]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(epoch(0)) < 0.5 * padding(list(range(len(LENGTHS))))


@pytest.mark.parametrize("order", ["shuffle", "by_prefix"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_rows_that_are_computed_in_more_passes_are_the_same_in_each_step(train: Any, kind: str, order: str) -> None:
    """`plan --fit` proposes fewer rows at once with more accumulation as a change that harms nothing."""
    some = {"rows": ROWS[kind](18), "order": order, "epochs": 2}
    once, twice = (
        train(kind, batch_size=rows, accumulation=8 // rows, **some).outcome for rows in (8, 2)
    )  # 8, 8 and 2 rows a step
    assert once.steps == twice.steps == 6
    assert once.row_order == twice.row_order


def test_long_batches_do_not_all_come_together() -> None:
    order = epoch(0)
    firsts = [LENGTHS[order[i]] for i in range(0, 200, 8)]
    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)
