"""On a CUDA device, too, an interrupted training ends with the bytes of one that was not."""

from __future__ import annotations

import pytest
import torch
from tiny_training import adapted

pytestmark = pytest.mark.gpu
CASES = [
    ("sft", {}), ("sft", {"accumulation": 2}), ("sft", {"optimizer": "paged_adamw_8bit"}),
    ("sft", {"optimizer": "paged_adamw_32bit"}), ("sft", {"optimizer": "lion_32bit", "learning_rate": 1e-3}),
    ("cpt", {}), ("dpo", {}), ("dpo", {"loss": "ipo"}), ("kto", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_training_taken_up_again_ends_as_if_nothing_had_been(train, kind, options):
    options = {"epochs": 2, **options}
    whole = train(kind, adapted().cuda(), **options)
    train(kind, adapted().cuda(), **options, stop_after=2)
    resumed = train(kind, adapted().cuda(), **options, resume=True)
    assert resumed.steps[0]["optimizer_step"] == 3
    assert whole.outcome.losses == resumed.outcome.losses
    assert whole.outcome.row_order == resumed.outcome.row_order
    for name, weight in whole.weights.items():
        assert weight.is_cuda
        assert torch.equal(weight, resumed.weights[name]), name
