"""A plan is executed: a hit links, a miss stages, runs, digests and commits. One folder a run, one store a root."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput, TunewrightError
from tunewright.pipeline.events import Events, Listener
from tunewright.pipeline.meter import Meter
from tunewright.pipeline.plan import Plan
from tunewright.pipeline.step import Context, Step
from tunewright.pipeline.summary import summarize
from tunewright.spec.dump import dump
from tunewright.store import disk
from tunewright.store.lock import writer
from tunewright.store.publish import Artifact, Store

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
        done: dict[str, Artifact] = {}
        statuses: dict[str, str] = {}
        try:
            for step in self.plan.steps:
                statuses[step.name] = "failed"
                done[step.name], statuses[step.name] = self._step(step, done, events)
                disk.link(done[step.name].path, self.folder / "steps" / step.name)
        except TunewrightError as error:
            events.emit(step.name, {"event": "failed", "why": str(error)})
            self._finish(done, statuses, str(error))
            raise
        result = self._finish(done, statuses, "")
        events.emit("run", {"event": "finished", "status": result.summary["status"]})
        return result

    def _step(self, step: Step, done: Mapping[str, Artifact], events: Events) -> tuple[Artifact, str]:
        key = self.plan.keys[step.name]
        found = self.store.find(step.name, key)
        if found is not None and step.task.present(found):
            events.emit(step.name, {"event": "step", "status": "cached"})
            return found, "cached"
        events.emit(step.name, {"event": "step", "status": "started"})
        meter = Meter()
        out = self.store.stage(step.name, key)
        context = Context(
            scratch=self.store.scratch(step.name, key),
            emit=lambda event: events.emit(step.name, event),
            manifests={name: artifact.manifest for name, artifact in done.items()},
        )
        inputs = {port: done[name] for port, name in step.inputs.items()}
        try:
            notes = step.task.run(inputs, out, context)
        except OSError as error:
            if error.errno in FULL:  # from a library's own writing
                raise disk.fault(out, 0, error) from error
            raise
        measured = {"seconds": meter.seconds(), "peak_rss_bytes": meter.peak_rss_bytes()}
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


def _fresh(root: Path, name: str) -> Path:
    """A folder name that is not taken: two runs may begin in one second, and clocks go backwards."""
    folder, number = root / name, 1
    while folder.exists():
        number += 1
        folder = root / f"{name}-{number}"
    return folder


def find_run(path: Path) -> Path:
    """The run's folder that a command names: itself, or the latest of a root. Raises `BadInput`."""
    for folder in (path, path / "latest"):
        if (folder / RUN).is_file():
            return folder.resolve()
    raise BadInput(f"{path} is not a run", fix="name a run's folder, or the folder that holds `latest`")
