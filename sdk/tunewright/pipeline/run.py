"""A plan is executed: a hit links, a miss stages, runs, digests and commits. One folder a run, one store a root."""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput, EnvironmentFault, Interrupted, TunewrightError, TunewrightWarning
from tunewright.parts.tracker import TrackedRun
from tunewright.pipeline.events import Events, Listener
from tunewright.pipeline.fit import misfits
from tunewright.pipeline.interrupts import Interrupts
from tunewright.pipeline.meter import Meter
from tunewright.pipeline.plan import Plan
from tunewright.pipeline.since import NamedSpec
from tunewright.pipeline.step import Context, Step, Task
from tunewright.pipeline.summary import summarize
from tunewright.pipeline.tasks.fetch import Fetch, base_config
from tunewright.pipeline.tasks.prepare import Prepare
from tunewright.pipeline.tasks.quantize import Quantize
from tunewright.pipeline.tasks.reference import Refer
from tunewright.pipeline.tasks.train import Misfit, Train
from tunewright.pipeline.trackers import Trackers
from tunewright.secrets import redact
from tunewright.spec.dump import dump
from tunewright.spec.problems import SpecError
from tunewright.store import disk
from tunewright.store.lock import writer
from tunewright.store.publish import Artifact, Store, read_artifact

RUN = "run.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(frozen=True)
class Result:
    """How a run ended: the object that `run --json` prints."""

    summary: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every step was done and every gate of the spec holds."""
        return bool(self.summary["status"] == "passed")


class Run:
    """One execution of a plan under a root; `open` makes its folder and holds the root's lock."""

    def __init__(self, plan: Plan, root: Path, folder: Path) -> None:
        self.plan, self.root, self.folder = plan, root, folder
        self.store = Store(root)

    @classmethod
    @contextmanager
    def open(cls, plan: Plan, root: Path) -> Iterator[Run]:
        """Take the root's lock and make the run's folder. Raises `RootLocked` where another process runs there."""
        with writer(root):
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            Store(root).sweep()
            folder = _fresh(root, f"{stamp}-{plan.key[:8]}")
            disk.make_folder(folder / "steps")
            run = cls(plan, root, folder)
            run._record()
            yield run

    def _record(self) -> None:
        disk.replace(self.folder / "spec.lock.yaml", dump(self.plan.lock).encode())
        plan = json.dumps(self.plan.to_json(self.store), indent=2, ensure_ascii=False)
        disk.replace(self.folder / "plan.json", plan.encode())

    def execute(self, on_event: Listener | None = None) -> Result:
        """Do every step that is not done. A failed step ends the run; what was finished stays finished."""
        events = Events(self.folder / "events.jsonl", self.plan.resolved.host, on_event)
        statuses: dict[str, str] = {}
        with Interrupts(lambda text: events.emit("run", {"event": "stopping", "why": text})) as interrupts:
            with Trackers(
                self.plan.resolved.trackers, self._about(), lambda event: events.emit("run", event)
            ) as events.trackers:
                done = self._execute(events, statuses, interrupts)
            result = self._finish(done, statuses, "")
            events.emit("run", {"event": "finished", "status": result.summary["status"]})
            return result

    def _about(self) -> TrackedRun:
        """What a tracker is told of the run: its name, and the options of what decides over the training."""
        resolved, told = self.plan.resolved, ("model_source", "quantizer", "adapter", "prompt_format", "trainer")
        options = {
            f"{resolved.where(backend) or backend.part}.{name}": value
            for backend in resolved.backends()
            if backend.part in told
            for name, value in backend.settings().items()
            if value is None or isinstance(value, (str, int, float, bool))
        }
        return TrackedRun(f"{resolved.spec.name}-{self.folder.name}", "", options)

    def before_training(self, on_event: Listener | None = None) -> None:
        """Do only what every training reads, and leave no record of a run: for a rehearsal."""
        events = Events(self.folder / "events.jsonl", self.plan.resolved.host, on_event)
        hits, done = self._sound_hits(), dict[str, Artifact]()
        with Interrupts() as interrupts:
            for step in self.plan.steps:
                ready = isinstance(step.task, Refer) and done.keys() >= set(step.inputs.values())
                if ready or isinstance(step.task, (Fetch, Prepare, Quantize)):
                    done[step.name], _ = self._step(step, hits, done, events, interrupts)
                    self._look_ahead(step, hits, done)
        disk.remove(self.folder)

    def _execute(self, events: Events, statuses: dict[str, str], interrupts: Interrupts) -> dict[str, Artifact]:
        hits = self._sound_hits()
        done: dict[str, Artifact] = {}
        try:
            for step in self.plan.steps:
                statuses[step.name] = "failed"
                done[step.name], statuses[step.name] = self._step(step, hits, done, events, interrupts)
                disk.link(done[step.name].path, self.folder / "steps" / step.name)
                self._look_ahead(step, hits, done)
                interrupts.obey()
        except (KeyboardInterrupt, Interrupted) as stopped:
            events.emit(step.name, {"event": "interrupted", "why": str(stopped)})
            self._finish(done, statuses, str(stopped) or "interrupted")
            raise
        except Exception as failure:
            error = _typed(failure, step.task)
            events.emit(step.name, {"event": "failed", "why": str(error)})
            summary = self._finish(done, statuses, redact(str(error))).summary
            if isinstance(error, TunewrightError):
                error.summary = summary
            raise error from (failure if error is not failure else failure.__cause__)
        return done

    def _look_ahead(self, step: Step, hits: Mapping[str, Artifact], done: Mapping[str, Artifact]) -> None:
        """Once the base is there, refuse what no training could go on with: not after an evaluation of minutes."""
        todo = [other for other in self.plan.steps if other.name not in hits]
        for other in todo:
            if other.inputs.get("model") == step.name:
                other.task.refuse_base(done[step.name])
        resolved = self.plan.resolved
        if (
            any(isinstance(other.task, Train) for other in todo)
            and isinstance(step.task, Fetch)
            and resolved.facts.model_config is None
        ):  # else `plan` has tried it
            resolved.refuse(misfits(resolved, base_config(done[step.name])))

    def _sound_hits(self) -> dict[str, Artifact]:
        """The steps that need not be done. What a step that will run reads is compared byte by byte before it counts.

        So a flipped bit is found before a training, and a run that redoes nothing still answers at once.
        """
        hits = self.plan.hits(self.store)
        checked: set[str] = set()
        while True:
            needed = {name for step in self.plan.steps if step.name not in hits for name in step.inputs.values()}
            damaged = [step.name for step in self.plan.steps if step.name in needed & hits.keys() - checked
                       and not self._whole(step, hits[step.name])]  # fmt: skip
            checked |= needed
            if not damaged:
                return hits
            for name in damaged:
                del hits[name]

    def _whole(self, step: Step, found: Artifact) -> bool:
        return read_artifact(found.path, digests=True) is not None and step.task.present(found, thorough=True)

    def _step(
        self,
        step: Step,
        hits: Mapping[str, Artifact],
        done: Mapping[str, Artifact],
        events: Events,
        interrupts: Interrupts,
    ) -> tuple[Artifact, str]:
        key = self.plan.keys[step.name]
        if step.name in hits:
            events.emit(step.name, {"event": "step", "status": "cached"})
            return hits[step.name], "cached"
        events.emit(step.name, {"event": "step", "status": "started"})
        meter, foreseen = Meter(), sum(one.resident for one in self.plan.foresee(done, step.name))
        out = self.store.stage(step.name, key)
        about = self.plan.about(step)
        others = self.store.unfinished(step.name, key, about)
        context = Context(
            scratch=self.store.scratch(step.name, key, about),
            emit=lambda event: events.emit(step.name, event),
            manifests={name: artifact.manifest for name, artifact in done.items()},
            key=key,
            interrupts=interrupts,
            others=others,
        )
        inputs = {port: done[name] for port, name in step.inputs.items()}
        try:
            notes = step.task.run(inputs, out, context)
        except Misfit as error:
            resolved = self.plan.resolved
            problem = resolved.problem(resolved.adapter, error.finding)
            raise SpecError([problem], resolved.document.sources) from error
        except OSError as error:
            if error.errno in FULL:  # from a library's own writing
                raise disk.fault(out, 0, error) from error
            raise
        if step.key(self.plan.keys) != key:
            raise BadInput(
                f"what `{step.name}` reads changed while it ran: nothing is kept of it",
                fix="run the same command again",
            )
        measured = {"seconds": meter.seconds(), "peak_rss_bytes": meter.peak_rss_bytes()}
        further = {"peak_device_bytes": meter.peak_device_bytes(), "forecast_bytes": foreseen}
        measured |= {name: size for name, size in further.items() if size}
        artifact = self.store.commit(step.name, key, {"notes": notes, **measured})
        events.emit(step.name, {"event": "step", "status": "done", **measured})
        return artifact, "done"

    def _finish(self, done: Mapping[str, Artifact], statuses: Mapping[str, str], why: str) -> Result:
        if "report" in done:
            disk.replace(self.folder / "report.html", (done["report"].path / "report.html").read_bytes())
        summary = summarize(self.folder, done, statuses, why)
        disk.replace(self.folder / RUN, json.dumps(summary, indent=2, ensure_ascii=False).encode())
        disk.link(self.folder, self.root / "latest")
        return Result(summary)


def _typed(failure: Exception, task: Task) -> Exception:
    """Running out of memory is this machine's lack, by whatever name a library raises it; the rest stays what it is.

    What helps depends on the step: the reference and the evaluations read nothing of how a training is divided.
    """
    if isinstance(failure, MemoryError) or type(failure).__name__ == "OutOfMemoryError":
        says, lighter = f"out of memory: {failure or 'the system gave no more'}", task.lighter()
        if not lighter:
            fix = "free some, or take a smaller base; `tunewright plan SPEC` tells what the steps hold"
            return EnvironmentFault(says, fix=fix)
        return EnvironmentFault(says, fix=f"{lighter}; or see what `tunewright plan SPEC --fit 16GB` proposes")
    return failure


def _fresh(root: Path, name: str) -> Path:
    """A folder name that is not taken: two runs may begin in one second, and clocks go backwards."""
    folder, number = root / name, 1
    while folder.exists():
        number += 1
        folder = root / f"{name}-{number}"
    return folder


def _has(folder: Path, step: str) -> bool:
    """Whether a run has done a step, or that step of a stage: `train`, `train-<stage>`."""
    steps = folder / "steps"
    return any(path.exists() for path in (steps / step, *steps.glob(f"{step}-*")))


def find_run(path: Path, needs: str = "") -> Path:
    """The run's folder that a command names: itself, or the latest of a root that has the step `needs`.

    A spec stands for the root `runs/<name>` under the working folder; where it is not what that run was made of, a
    warning says so. Raises `BadInput` where there is none, `SpecError` where a spec cannot be read.
    """
    if path.is_file():
        spec = NamedSpec(path)
        found = find_run(spec.root, needs)
        if unlike := spec.unlike(found):
            warnings.warn(TunewrightWarning(unlike), stacklevel=1)  # from here, so that it is shown once, whoever asks
        return found
    if (path / RUN).is_file():
        return path.resolve()
    latest = sorted(path.glob(f"*/{RUN}"), key=lambda run: run.stat().st_mtime_ns, reverse=True)
    for folder in dict.fromkeys([path / "latest", *(run.parent for run in latest)]):
        if (folder / RUN).is_file() and (not needs or _has(folder, needs)):
            return folder.resolve()
    raise BadInput(f"{path} is not a run", fix="name a run's folder, or the folder that holds `latest`")
