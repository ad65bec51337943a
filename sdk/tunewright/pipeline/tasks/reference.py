"""reference: what the model says of the rows before it is trained, asked once and read by every training like it."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.parts import AdapterMethod, Backend, Loader, Quantizer, Trainer
from tunewright.pipeline import referred
from tunewright.pipeline.saved import Saved
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.train import Begins
from tunewright.store.publish import Artifact


class Refer(Begins):
    """The reference of one training. Of the trainer, only what it says that the numbers depend on is in the key.

    `adapter` is None where the training begins afresh by a method whose fresh weights have no effect: the bare base is
    asked, and no option of the method is in the key. Any other begins at a model of its own, which is then made as for
    the training: with the ports and the parent of `Train`, and by the seed.
    """

    def __init__(
        self,
        loader: Loader,
        quantizer: Quantizer,
        adapter: AdapterMethod | None,
        trainer: Trainer,
        dtype: str,
        seed: int,
        parent: Saved | None,
    ) -> None:
        super().__init__(loader, quantizer, trainer, dtype, seed, parent)
        self.adapter = adapter

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.quantizer, *([] if self.adapter is None else [self.adapter]))

    def settings(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "asked_by": self.trainer.provenance(),
            "refers": dict(self.trainer.refers(self.seed) or {}),
            "begun_by_seed": None if self.adapter is None else self.seed,
        }

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        job = self.begin(self.adapter, self.parent_in(inputs), inputs, context)
        train, held = job.train, job.validation
        referred.write(self.trainer.reference(job), train, held, out)
        del job
        gc.collect()
        return {"rows": len(train) + len(held)}

    def lighter(self) -> str:
        return self.trainer.lighter_reference()
