"""`train`: one training of a tiny model."""

from __future__ import annotations

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before the hub's client is imported

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Trained, adapted, token_rows, tokenizer

from tunewright.parts.trainer import TrainJob
from tunewright_trl.sft import Sft, SftOptions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give on models this small, many times more where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    """`train(model=…, rows=…, seed=…, epochs=2, …)` trains with these options and gives back what happened."""

    def run(model: Any = None, rows: Any = None, seed: int = 0, **options: Any) -> Trained:
        events: list[dict[str, Any]] = []
        rows = token_rows() if rows is None else rows
        job = TrainJob(model or adapted(), tokenizer(), rows, [], seed, tmp_path / "scratch", events.append)
        settings = {"batch_size": 4, "learning_rate": 1e-2, **options}
        return Trained(job, events, Sft(SftOptions.model_validate(settings)).train(job))

    return run
