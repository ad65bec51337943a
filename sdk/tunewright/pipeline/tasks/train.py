"""train: the base is loaded, wrapped and trained; what was trained is saved apart from it, with proof of what it is."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import WorkFailed
from tunewright.parts import AdapterMethod, Backend, Loader, Quantizer, Trainer
from tunewright.parts.trainer import TrainJob
from tunewright.pipeline.meter import machine
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.prepare import read_rows
from tunewright.store import disk
from tunewright.store.publish import Artifact

TRAINED, OUTCOME = "trained", "outcome.json"


class Train(Task):
    """One training of one adapter (or of the whole model) on the prepared rows."""

    def __init__(
        self, loader: Loader, quantizer: Quantizer, adapter: AdapterMethod, trainer: Trainer, dtype: str, seed: int
    ) -> None:
        self.loader, self.quantizer, self.adapter, self.trainer = loader, quantizer, adapter, trainer
        self.dtype, self.seed = dtype, seed

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.quantizer, self.adapter, self.trainer)

    def settings(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "seed": self.seed}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base = base_folder(inputs["model"])
        self.loader.seed(self.seed)
        model = self.adapter.wrap(self.loader.model(base, self.quantizer, self.dtype, "train"), None)
        before = self.adapter.digest(model)
        job = TrainJob(
            model=model,
            tokenizer=self.loader.tokenizer(base),
            train=read_rows(inputs["rows"]),
            validation=(),
            seed=self.seed,
            scratch=context.scratch,
            emit=context.emit,
        )
        outcome = self.trainer.train(job)
        digest = self.adapter.digest(model)
        if digest == before:
            raise WorkFailed("training changed no weight", fix="check the learning rate and what is trainable")
        disk.make_folder(out / TRAINED)
        self.adapter.save(model, out / TRAINED)
        trainable, total = self.adapter.count(model)
        disk.write(
            out / OUTCOME,
            canonical_json(
                {
                    **asdict(outcome),
                    "digest": digest,
                    "trainable": trainable,
                    "total": total,
                    "machine": machine(self.loader.device()),
                }
            ),
        )
        del model, job
        gc.collect()
        return {"steps": outcome.steps, "digest": digest}
