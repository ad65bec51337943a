"""`trackio`: runs of a project in Trackio's own folder, for `trackio show`. Nothing leaves the machine.

By transformers' `TrackioCallback`. Of the module `trackio` it gets a stand-in that keeps one run to itself: the
module's `config` belongs to the whole process, and variables of the environment would send the run to a Space or a
server, and watch the machine besides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Options
from tunewright.parts.tracker import TrackedRun
from tunewright_trackers.driven import CallbackTracker, environment, theirs

ELSEWHERE = (
    "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID", "TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID", "TRACKIO_WEBHOOK_URL",
    "TRACKIO_WRITE_TOKEN",
)  # fmt: skip
"""Variables that would send a run away."""


class TrackioOptions(Options):
    """Options of runs in Trackio."""

    kind: str = "trackio"
    project: Annotated[str, Field(min_length=1, description="Project that the runs belong to.")] = "tunewright"


class TrackioTracker(CallbackTracker[TrackioOptions]):
    """Writes parameters and numbers, one run a training."""

    kind, library = "trackio", "trackio"
    Options: ClassVar = TrackioOptions
    libraries = ("trackio",)
    reads = frozenset({"project"})

    def callback(self, about: TrackedRun) -> Any:
        callback = theirs("TrackioCallback")
        callback._trackio = Local(callback._trackio, self.options.project)
        return callback


class Local:
    """What `TrackioCallback` calls of the module `trackio`."""

    def __init__(self, module: Any, project: str) -> None:
        self.module, self.project = module, project
        self.run: Any = None
        # the Space of a run, of which there is none
        self.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))

    def init(self, **asked: Any) -> None:
        with environment(dict.fromkeys(ELSEWHERE)), _nobody():
            self.run = self.module.init(
                project=self.project, name=asked["name"], resume="never", embed=False, auto_log_gpu=False,
                auto_log_cpu=False,
            )  # fmt: skip

    @property
    def config(self) -> Any:
        return _Config(self.run.config)

    def log(self, values: dict[str, Any]) -> None:
        """At the step that the callback puts among the numbers."""
        self.run.log(values, step=values["train/global_step"])

    def finish(self) -> None:
        self.run.finish()


@contextmanager
def _nobody() -> Iterator[None]:
    """Within it Trackio does not ask the hub whose token lies on this machine, as it does for every run it makes."""
    asks, name = sys.modules.get("trackio.run"), "_get_default_namespace"
    before = getattr(asks, name, None)
    if before is None:  # another version, which has no such question
        yield
        return
    setattr(asks, name, lambda: None)
    try:
        yield
    finally:
        setattr(asks, name, before)


class _Config:
    """The callback also says that values may change, which a plain mapping does not take."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def update(self, values: dict[str, Any], allow_val_change: bool = True) -> None:
        self.config.update(values)

    def __setitem__(self, name: str, value: Any) -> None:
        self.config[name] = value
