"""train: the base is loaded, wrapped and trained; what was trained is saved apart from it, with proof of what it is."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import TunewrightWarning, WorkFailed
from tunewright.handoff.bound import bind
from tunewright.parts import AdapterMethod, Backend, Loader, Quantizer, Trainer
from tunewright.parts.base import BadOption, Facts, Finding
from tunewright.parts.trainer import Checkpoint, TrainJob, TrainOutcome
from tunewright.pipeline import referred
from tunewright.pipeline.along import Along
from tunewright.pipeline.meter import machine, same_threads
from tunewright.pipeline.saved import Saved
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import RECORD, base_folder
from tunewright.pipeline.tasks.prepare import HELD, read_rows
from tunewright.store import disk
from tunewright.store.checkpoints import Checkpoints
from tunewright.store.publish import Artifact

TRAINED, OUTCOME = "trained", "outcome.json"
RESUMED = "resumed.json"


class Misfit(BadOption):
    """The adapter cannot be put on the base; the run, which has the spec, says at which line."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code, finding.message, finding.field, finding.suggestion)
        self.finding = finding


class Begins(Task):
    """A step that opens the model which a training begins at.

    With the port `parent`, that is what this step trained; else what `parent`, saved by another run, holds; else what
    the adapter method makes afresh.
    """

    def __init__(
        self, loader: Loader, quantizer: Quantizer, trainer: Trainer, dtype: str, seed: int, parent: Saved | None
    ) -> None:
        self.loader, self.quantizer, self.trainer = loader, quantizer, trainer
        self.dtype, self.seed, self.parent = dtype, seed, parent

    def sources(self) -> Mapping[str, str]:
        return {} if self.parent is None else {"parent": self.parent.digest()}

    def refuse_base(self, base: Artifact) -> None:
        """Where the spec's parent was altered, or is of another base or quantization than this, fetched one."""
        if self.parent is not None:
            self.parent.check(base.json(RECORD)["identity"], self.quantizer)

    def parent_in(self, inputs: Mapping[str, Artifact]) -> Path | None:
        """The folder of what the training goes on from, proven."""
        if "parent" in inputs:
            return inputs["parent"].path / TRAINED
        self.refuse_base(inputs["model"])
        return None if self.parent is None else self.parent.folder

    def begin(
        self, adapter: AdapterMethod | None, parent: Path | None, inputs: Mapping[str, Artifact], context: Context
    ) -> TrainJob:
        """The model, bare where there is no `adapter`, with the prepared rows. Raises `Misfit` where the adapter cannot
        be put on the base."""
        base = base_folder(inputs["model"])
        self.loader.seed(self.seed)
        model = self.loader.model(base, self.quantizer, self.dtype, "train")
        if adapter is not None:
            try:
                model = adapter.wrap(model, parent)
            except BadOption as error:
                raise Misfit(error.finding) from error
        return TrainJob(
            model=model,
            tokenizer=self.loader.tokenizer(base),
            train=read_rows(inputs["rows"]),
            validation=read_rows(inputs["rows"], HELD),
            seed=self.seed,
            scratch=context.scratch,
            emit=context.emit,
        )


class Train(Begins):
    """One training of one adapter (or of the whole model) on the prepared rows.

    With the port `parent`, what that step trained is trained on; else what the adapter's `parent` names; else afresh.
    With the port `reference`, what that step asked of the rows is given to the trainer.
    """

    version = 2

    def __init__(
        self,
        loader: Loader,
        quantizer: Quantizer,
        adapter: AdapterMethod,
        trainer: Trainer,
        dtype: str,
        seed: int,
        facts: Facts,
        parent: Saved | None,
    ) -> None:
        super().__init__(loader, quantizer, trainer, dtype, seed, parent)
        self.adapter = adapter
        self.derived, self.decided = trainer.derive(facts), trainer.decide(facts)

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.quantizer, self.adapter, self.trainer)

    def lighter(self) -> str:
        """The mildest step of each of the trainer's levers, the least harmful first."""
        levers = sorted(self.trainer.levers(), key=lambda lever: lever.harm)
        steps = [" with ".join(f"`{name}: {_written(to)}`" for name, to in lever.steps[0].items()) for lever in levers]
        return f"set {', or '.join(steps)} for the trainer" if steps else ""

    def settings(self) -> dict[str, Any]:
        values = {
            what: {name: argument.value for name, argument in arguments.items()}
            for what, arguments in (("derived", self.derived), ("decided", self.decided))
        }
        return {"dtype": self.dtype, "seed": self.seed, **values}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        parent = self.parent_in(inputs)
        # before minutes are spent on loading: a torn checkpoint is said now
        checkpoints = Checkpoints(context.scratch, context.key)
        resume = _newest(checkpoints, context)
        if resume is not None:
            context.emit({"event": "resumed", "resumed_from": resume.step})
            disk.replace(context.scratch / RESUMED, canonical_json([*_resumed(context.scratch), resume.step]))
        along = Along(context.scratch, context.emit, 0 if resume is None else resume.step)
        job = self.begin(self.adapter, parent, inputs, context)
        job = job._replace(
            derived=self.derived,
            decided=self.decided,
            resume=resume,
            reference=referred.read(inputs["reference"], job.train, job.validation) if "reference" in inputs else None,
            emit=along.emit,
            commit=_both(along.keep, checkpoints.commit),
            stopping=context.interrupts.stopping,
        )
        with same_threads():
            outcome, digest = self._train(job, out, context)
        bind(out / TRAINED, inputs["model"].json(RECORD)["identity"]["identity"])
        del job
        gc.collect()
        return {
            "steps": outcome.steps,
            "digest": digest,
            "resumed_from": _resumed(context.scratch),
            "memory": along.told(),
        }

    def _train(self, job: TrainJob, out: Path, context: Context) -> tuple[TrainOutcome, str]:
        """Train, save what was trained and write down what came of it; gives its digest as well."""
        before = self.adapter.digest(job.model)
        with context.interrupts.held():
            outcome = self.trainer.train(job)
        if outcome.stopped:
            context.interrupts.obey()
            raise WorkFailed("the trainer stopped and nobody had asked it to", fix="tell the trainer's maker")
        digest = self.adapter.digest(job.model)
        if digest == before:
            raise WorkFailed("training changed no weight", fix="check the learning rate and what is trainable")
        disk.make_folder(out / TRAINED)
        self.adapter.save(job.model, out / TRAINED)
        self._tell(outcome, job, digest, out)  # with the number of threads that it was trained on
        return outcome, digest

    def _tell(self, outcome: TrainOutcome, job: TrainJob, digest: str, out: Path) -> None:
        """Write down what came of the training."""
        trainable, total = self.adapter.count(job.model)
        told = {name: value for name, value in asdict(outcome).items() if name != "stopped"}
        disk.write(
            out / OUTCOME,
            canonical_json(
                {
                    **told,
                    "digest": digest,
                    "trainable": trainable,
                    "total": total,
                    "parent": None if self.parent is None else self.parent.about(),
                    "machine": machine(self.loader.device()),
                }
            ),
        )


def _both(keep: Callable[[], None], commit: Callable[[Path, int], None]) -> Callable[[Path, int], None]:
    """Keep what belongs to a checkpoint, then commit it: what was kept too early is left out by its step."""

    def both(folder: Path, step: int) -> None:
        keep()
        commit(folder, step)

    return both


def _resumed(scratch: Path) -> list[int]:
    """The optimizer steps at which this training was taken up again."""
    path = scratch / RESUMED
    found: list[int] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return found


def _newest(checkpoints: Checkpoints, context: Context) -> Checkpoint | None:
    """Where to go on; what was passed over on the way is said by name."""
    checkpoints.sweep()
    found = checkpoints.newest()
    if found is None:
        for other in context.others:
            context.warn(TunewrightWarning(other))
        return None
    for why in found.damaged:
        context.warn(TunewrightWarning(f"{why}; going on from {found.folder.name}"))
    return Checkpoint(found.folder, found.step)


def _written(value: Any) -> str:
    """As a spec has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
