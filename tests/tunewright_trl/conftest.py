"""`train`: one training of a tiny model."""

from __future__ import annotations

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before the hub's client is imported

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import ROWS, Trained, adapted, tokenizer, trainer

from tunewright.parts.base import Cap, Facts
from tunewright.parts.trainer import Checkpoint, TrainJob
from tunewright.store.checkpoints import Checkpoints


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give on models this small, many times more where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    """`train(kind="sft", model=…, rows=…, epochs=2, …)` trains with these options and gives back what happened.

    `stop_after=N` interrupts it after step N; `resume=True` goes on from the newest checkpoint in the same scratch.
    """

    def run(
        kind: str = "sft", model: Any = None, rows: Any = None, seed: int = 0, *, validation: Any = (),
        stop_after: int | None = None, resume: bool = False, **options: Any,
    ) -> Trained:  # fmt: skip
        events: list[dict[str, Any]] = []
        scratch = tmp_path / "scratch"
        store = Checkpoints(scratch, "key")
        made = trainer(kind, {"batch_size": 4, "learning_rate": 1e-2, **options})
        found = store.newest() if resume else None
        adapter = frozenset({Cap.ADAPTS, Cap.BY_TOKEN})
        facts = Facts(offers={"adapter": adapter}, validation=bool(validation))
        job = TrainJob(
            model=model or adapted(),
            tokenizer=tokenizer(),
            train=ROWS[kind]() if rows is None else rows,
            validation=validation,
            seed=seed,
            scratch=scratch,
            emit=events.append,
            derived=made.derive(facts),
            decided=made.decide(facts),
            resume=found and Checkpoint(found.folder, found.step),
            commit=store.commit,
            stopping=lambda: sum(event["event"] == "train" for event in events) == stop_after,
        )
        return Trained(job, events, made.train(job))

    return run
