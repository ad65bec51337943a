"""reference: what the model says of the rows before it is trained, asked once and read by every training like it."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.parts import AdapterMethod, Backend, Loader, Quantizer, Trainer
from tunewright.parts.trainer import TrainJob
from tunewright.pipeline import referred
from tunewright.pipeline.saved import Saved
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.prepare import HELD, read_rows
from tunewright.pipeline.tasks.train import parent_of, refuse_parent, wrapped
from tunewright.store.publish import Artifact


class Refer(Task):
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
        self.loader, self.quantizer, self.adapter, self.trainer = loader, quantizer, adapter, trainer
        self.dtype, self.seed, self.parent = dtype, seed, parent

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.quantizer, *([] if self.adapter is None else [self.adapter]))

    def settings(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "asked_by": self.trainer.provenance(),
            "refers": dict(self.trainer.refers(self.seed) or {}),
            "begun_by_seed": None if self.adapter is None else self.seed,
        }

    def sources(self) -> Mapping[str, str]:
        return {} if self.parent is None else {"parent": self.parent.digest()}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base, parent = base_folder(inputs["model"]), parent_of(self.parent, inputs)
        self.loader.seed(self.seed)
        model = self.loader.model(base, self.quantizer, self.dtype, "train")
        if self.adapter is not None:
            model = wrapped(self.adapter, model, parent)
        train, held = read_rows(inputs["rows"]), read_rows(inputs["rows"], HELD)
        job = TrainJob(
            model=model,
            tokenizer=self.loader.tokenizer(base),
            train=train,
            validation=held,
            seed=self.seed,
            scratch=context.scratch,
            emit=context.emit,
        )
        referred.write(self.trainer.reference(job), train, held, out)
        del model, job
        gc.collect()
        return {"rows": len(train) + len(held)}

    def lighter(self) -> str:
        return self.trainer.lighter_reference()

    def refuse_base(self, base: Artifact) -> None:
        """Where the spec's parent was altered, or is of another base than this, fetched one."""
        refuse_parent(self.parent, base)
