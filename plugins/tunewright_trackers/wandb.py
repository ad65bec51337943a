"""`wandb`: runs of a Weights & Biases project; in a folder by default, sent later by `wandb sync` or never.

By transformers' `WandbCallback`. Of the module `wandb` it gets a stand-in that keeps one run to itself. What wandb
collects by itself (the machine, the program, the commit, installed packages, what is printed) is switched off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.parts import Finding, Options, Secret, SpecPath
from tunewright.parts.tracker import TrackedRun
from tunewright_trackers.driven import URL, CallbackTracker, theirs

COLLECTS_NOTHING = {
    "console": "off", "disable_code": True, "disable_git": True, "disable_job_creation": True, "host": "-",
    "save_code": False, "silent": True, "x_disable_machine_info": True, "x_disable_meta": True, "x_disable_stats": True,
    "x_save_requirements": False,
}  # fmt: skip
"""Of `wandb.Settings`, wandb 0.31."""
SERVICE = "WANDB_SERVICE"
"""A variable that wandb leaves for child processes, of which none tracks anything."""


class WandbOptions(Options):
    """Options of runs in Weights & Biases."""

    kind: str = "wandb"
    project: Annotated[str, Field(min_length=1, description="Project that the runs belong to.")] = "tunewright"
    entity: Annotated[str | None, Field(description="User or team that the project belongs to.")] = None
    mode: Annotated[
        Literal["offline", "online"], Field(description="`offline` writes to `dir`; `online` sends as it goes.")
    ] = "offline"
    api_key: Annotated[
        Secret | None, Field(description='For `online`: `"${env:WANDB_API_KEY}"`. No key is taken from elsewhere.')
    ] = None
    uri: Annotated[str | None, Field(pattern=URL, description="For `online`: URL of a server of your own.")] = None
    dir: Annotated[
        SpecPath,
        Field(default="trackers/wandb", validate_default=True, description="Folder of the runs' files."),
    ]


class WandbTracker(CallbackTracker[WandbOptions]):
    """Sends parameters and numbers, one run a training; models and checkpoints stay here."""

    kind, library = "wandb", "wandb"
    Options: ClassVar = WandbOptions
    libraries = ("wandb",)
    reads = frozenset({"project", "entity", "mode", "api_key", "uri", "dir"})
    vary: ClassVar = {"uri": (None, "https://wandb.acme.example"), "api_key": (None, "${env:WANDB_API_KEY}")}

    def clashes(self) -> Iterable[Finding]:
        online = self.options.mode == "online"
        if online and self.options.api_key is None:
            fix = 'add `api_key: "${env:WANDB_API_KEY}"`'
            yield Finding("bad-value", "`mode: online` needs an `api_key`", "mode", fix)
        for name in ("api_key", "uri"):
            if not online and getattr(self.options, name) is not None:
                yield Finding("bad-value", f"`{name}` is for `mode: online`", name, "add `mode: online`, or remove it")

    def callback(self, about: TrackedRun) -> Any:
        callback = theirs("WandbCallback")
        callback._log_model = type(callback._log_model).FALSE  # WANDB_LOG_MODEL would send the model itself
        callback._wandb = Own(callback._wandb, self._settings(callback._wandb))
        return callback

    def end(self, callback: Any) -> None:
        callback._wandb.finish()  # the callback itself leaves the run open

    def _settings(self, wandb: Any) -> Any:
        chosen = {
            "project": self.options.project,
            "entity": self.options.entity,
            "mode": self.options.mode,
            "base_url": self.options.uri,
            "api_key": None if self.options.api_key is None else self.options.api_key.reveal(),
            "root_dir": str(self.options.dir.path),
        }
        self.options.dir.path.mkdir(parents=True, exist_ok=True)
        return wandb.Settings(
            **COLLECTS_NOTHING, **{name: value for name, value in chosen.items() if value is not None}
        )


class Own:
    """What `WandbCallback` calls of the module `wandb`."""

    def __init__(self, module: Any, settings: Any) -> None:
        self.module, self.settings = module, settings
        self.run: Any = None

    def init(self, project: str, name: str | None = None) -> None:
        """`project` comes from WANDB_PROJECT; the settings hold the spec's. The process's current run is left alone."""
        before = os.environ.get(SERVICE)
        try:
            self.run = self.module.init(name=name, settings=self.settings, reinit="create_new")
        finally:
            if before is None:
                os.environ.pop(SERVICE, None)

    @property
    def config(self) -> Any:
        return self.run.config

    def define_metric(self, *names: Any, **how: Any) -> None:
        self.run.define_metric(*names, **how)

    def log(self, values: dict[str, Any]) -> None:
        self.run.log(values)

    def finish(self) -> None:
        if self.run is not None:
            self.run.finish()
