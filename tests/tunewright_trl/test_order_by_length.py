"""An epoch holds every row once, in an order that a seed decides and batches of similar length."""

from __future__ import annotations

import random

import pytest
import torch

from tunewright_trl.order import ByLength

DRAW = random.Random(5)
LENGTHS = [DRAW.randint(5, 200) for _ in range(203)]


def epoch(seed: int, number: int = 0, batch_size: int = 8) -> list[int]:
    sampler = ByLength(LENGTHS, batch_size, seed)
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize("batch_size", [1, 8, 64, 500])
def test_every_row_comes_once(batch_size: int) -> None:
    assert sorted(epoch(0, batch_size=batch_size)) == list(range(len(LENGTHS)))


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


def test_a_batch_holds_rows_of_similar_length() -> None:
    def padding(order: list[int]) -> int:
        batches = [[LENGTHS[row] for row in order[i : i + 8]] for i in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(epoch(0)) < 0.5 * padding(list(range(len(LENGTHS))))


def test_long_batches_do_not_all_come_together() -> None:
    order = epoch(0)
    firsts = [LENGTHS[order[i]] for i in range(0, 200, 8)]
    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)
