"""`mlflow`: runs of an experiment, in a folder or on a tracking server.

By transformers' `MLflowCallback`, which calls the module `mlflow`. Here it gets an object in its place, over a store of
its own (`mlflow.store.tracking`): MLflow's address and its current run belong to the whole process, it would add the
program's path, the commit and the user's name as tags, and its background threads would keep the process from ending
while a server is down.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Finding, Options, Secret, SpecPath
from tunewright.parts.tracker import TrackedRun
from tunewright_trackers.driven import URL, CallbackTracker, environment, theirs


class MlflowOptions(Options):
    """Options of runs in MLflow."""

    kind: str = "mlflow"
    uri: Annotated[
        str | None, Field(pattern=URL, description="URL of a tracking server; by default nothing leaves the machine.")
    ] = None
    dir: Annotated[
        SpecPath,
        Field(
            default="trackers/mlflow",
            validate_default=True,
            description="Folder of the runs without `uri`; to look at it, MLflow wants MLFLOW_ALLOW_FILE_STORE=true.",
        ),
    ]
    experiment: Annotated[str, Field(min_length=1, description="Experiment that the runs belong to.")] = "tunewright"
    token: Annotated[
        Secret | None, Field(description='Of the server: `"${env:MLFLOW_TOKEN}"`. No token is taken from elsewhere.')
    ] = None


class MlflowTracker(CallbackTracker[MlflowOptions]):
    """Writes parameters and metrics, one run a training; models and checkpoints stay here."""

    kind, library = "mlflow", "mlflow"
    Options: ClassVar = MlflowOptions
    libraries = ("mlflow-skinny", "mlflow")
    reads = frozenset({"uri", "dir", "experiment", "token"})
    vary: ClassVar = {"uri": (None, "https://mlflow.acme.example"), "token": (None, "${env:MLFLOW_TOKEN}")}

    def clashes(self) -> Iterable[Finding]:
        if self.options.uri is not None and "dir" in self.options.model_fields_set:
            yield Finding("bad-value", "`uri` and `dir` are both written: runs go to one of them", "dir", "remove it")
        if self.options.uri is None and self.options.token is not None:
            yield Finding("bad-value", "`token` is of a server, and no `uri` names one", "token", "remove it")

    def callback(self, about: TrackedRun) -> Any:
        callback = theirs("MLflowCallback")
        callback._ml_flow = Store(self._store(), self.options.experiment)
        return callback

    def _store(self) -> Any:
        if self.options.uri is None:
            # MLflow asks for this consent: its folders are in maintenance mode, and a database needs all of MLflow
            with environment({"MLFLOW_ALLOW_FILE_STORE": "true"}):
                return _module("mlflow.store.tracking.file_store").FileStore(str(self.options.dir.path))
        token = None if self.options.token is None else self.options.token.reveal()
        credentials = _module("mlflow.utils.rest_utils").MlflowHostCreds(self.options.uri, token=token)
        return _module("mlflow.store.tracking.rest_store").RestStore(lambda: credentials)


def _module(name: str) -> Any:
    """A module of MLflow, which is partly without types."""
    return importlib.import_module(name)


class Store:
    """What `MLflowCallback` calls of the module `mlflow`."""

    def __init__(self, store: Any, experiment: str) -> None:
        self.__version__ = _module("mlflow").__version__
        self.store, self.experiment = store, experiment
        self.run: Any = None

    def is_tracking_uri_set(self) -> bool:
        """It is: the callback would set that of the process."""
        return True

    def get_tracking_uri(self) -> str:
        return "the spec's"

    def active_run(self) -> Any:
        return self.run

    def set_experiment(self, name: str) -> None:
        """Comes from MLFLOW_EXPERIMENT_NAME, where the spec names the experiment."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Come from MLFLOW_TAGS: what the environment holds is not shown."""

    def start_run(self, run_name: str, nested: bool = False) -> None:
        found = self.store.get_experiment_by_name(self.experiment)
        if found is not None and found.lifecycle_stage != "active":
            raise ValueError(f"the experiment `{self.experiment}` was deleted: restore it, or name another")
        place = self.store.create_experiment(self.experiment) if found is None else found.experiment_id
        self.run = self.store.create_run(place, user_id="", start_time=_now(), tags=[], run_name=run_name)

    def log_params(self, params: Mapping[str, Any], synchronous: bool = True) -> None:
        """At once, whatever is asked: this thread may wait, the process's end may not."""
        make = _module("mlflow.entities").Param
        self._batch(params=[make(name, str(value)) for name, value in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int, synchronous: bool = True) -> None:
        make, now = _module("mlflow.entities").Metric, _now()
        self._batch(metrics=[make(name, value, now, step) for name, value in metrics.items()])

    def _batch(self, metrics: Iterable[Any] = (), params: Iterable[Any] = ()) -> None:
        self.store.log_batch(self.run.info.run_id, list(metrics), list(params), [])

    def end_run(self) -> None:
        ended, self.run = self.run, None
        finished = _module("mlflow.entities").RunStatus.FINISHED
        self.store.update_run_info(ended.info.run_id, finished, _now(), None)


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
