"""transformers' callbacks, driven from outside a Trainer: they get what we show, and neither a model nor its config.

What they read of a Trainer is three objects (transformers 5.24, `integrations/integration_utils.py`): arguments, of
which here only the run's name and what the spec says are there; a state with the step; a control that nothing sets.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from tunewright.errors import EnvironmentFault, MissingExtra, TunewrightError
from tunewright.parts import Facts, Finding, Tracker
from tunewright.parts.base import BadOption, O
from tunewright.parts.tracker import TrackedRun, Tracking

EXTRA = "track"
URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
"""Without a user's name in it: a password in a spec would be a secret in a file."""
QUIET: Mapping[str, str] = {
    "DO_NOT_TRACK": "true", "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false",
}  # fmt: skip
"""With these a library reports nothing of itself to its makers; each is read when the library is imported."""

_environment = threading.Lock()


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or take them out where the value is None, and put them back; one tracker at a time.

    For what a library takes by no argument. The environment is the whole process's: keep what is within short.
    """
    with _environment:
        before = {name: os.environ.get(name) for name in changes}
        _set(changes)
        try:
            yield
        finally:
            _set(before)


def _set(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class CallbackTracker(Tracker[O]):
    """A tracker whose callback transformers brings; a library that is missing is said before anything is done."""

    extra = EXTRA
    library: ClassVar[str]
    """What is imported."""

    def check(self, facts: Facts) -> Iterable[Finding]:
        if importlib.util.find_spec(self.library) is None:  # looked for, not imported: that takes seconds
            message = f"tracker `{self.kind}` needs `{self.library}`, which is not installed"
            yield Finding("requirement-unmet", message, suggestion=f'pip install "tunewright[{EXTRA}]"')
        yield from self.clashes()

    def clashes(self) -> Iterable[Finding]:
        """Options that contradict each other."""
        return ()

    def open(self, about: TrackedRun) -> Tracking:
        """Raises `BadOption`, `MissingExtra`, or `EnvironmentFault` with what the library said."""
        for clash in self.clashes():
            raise BadOption(clash.code, clash.message, clash.field, clash.suggestion)
        with spoken(self.kind):
            with environment(QUIET):
                __import__(self.library)
            return Driven(self, about)

    @abstractmethod
    def callback(self, about: TrackedRun) -> Any:
        """transformers' callback, made so that it shows nothing that stands in the environment."""

    def end(self, callback: Any) -> None:
        """After the callback was told that the training ended: what it leaves open."""


def theirs(name: str) -> Any:
    """A callback of transformers, by its name: it has no types."""
    from transformers import integrations

    return getattr(integrations, name)()


def keep_to_themselves(*libraries: str) -> None:
    """Let the modules of libraries draw from a generator of their own.

    MLflow and wandb draw ids and waiting times from Python's one generator, and so does urllib3 where a server is down.
    A training may draw from it as well: it would go another way with a tracker than without.
    """
    own = ModuleType("random")
    vars(own).update(vars(random))
    generator = random.Random()
    for name, drawn in vars(random).items():
        if isinstance(getattr(drawn, "__self__", None), random.Random):
            setattr(own, name, getattr(generator, name))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in libraries and vars(module).get("random") is random:
            vars(module)["random"] = own


@contextmanager
def spoken(kind: str) -> Iterator[None]:
    """What a library raises, as an error that names the tracker."""
    try:
        yield
    except TunewrightError:
        raise
    except ImportError as error:
        raise MissingExtra(f"tracker/{kind}", EXTRA, error) from error
    except Exception as error:
        raise EnvironmentFault(f"tracker `{kind}`: {type(error).__name__}: {error}") from error


class Driven(Tracking):
    """One training, told to a callback as transformers' Trainer would tell it."""

    def __init__(self, tracker: CallbackTracker, about: TrackedRun) -> None:
        from transformers import TrainerControl, TrainerState

        self.tracker, self.callback = tracker, tracker.callback(about)
        keep_to_themselves(tracker.library, "urllib3")
        self.arguments, self.state, self.control = Arguments(about), TrainerState(), TrainerControl()
        try:
            self._tell(self.callback.on_train_begin)
        except TunewrightError:
            with suppress(TunewrightError):  # the first reason counts
                self.close()
            raise

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """`validation_loss` is `eval_loss` to the callbacks, which make `eval/loss` of it."""
        self.state.global_step = step
        self._tell(self.callback.on_log, logs={_called(name): value for name, value in values.items()})

    def close(self) -> None:
        self._tell(self.callback.on_train_end)
        with spoken(self.tracker.kind):
            self.tracker.end(self.callback)

    def _tell(self, hook: Callable[..., Any], **more: Any) -> None:
        with spoken(self.tracker.kind):
            hook(self.arguments, self.state, self.control, **more)


def _called(name: str) -> str:
    return f"eval_{name.removeprefix('validation_')}" if name.startswith("validation_") else name


class Arguments(SimpleNamespace):
    """What the callbacks read of TrainingArguments. Nothing of it goes to a hub, and no folder is known."""

    def __init__(self, about: TrackedRun) -> None:
        super().__init__(
            run_name=run_name(about),
            output_dir="",
            project=None,
            trackio_space_id=None,
            trackio_bucket_id=None,
            trackio_static_space_id=False,
            hub_private_repo=None,
        )
        self.told = {"run": about.name, "stage": about.stage, **about.arguments}

    def to_dict(self) -> dict[str, Any]:
        return dict(self.told)

    def to_json_string(self) -> str:
        return json.dumps(self.told, indent=2, ensure_ascii=False)


def run_name(about: TrackedRun) -> str:
    """What a tracker calls one training: `acme-support/train-sft`."""
    return "/".join(filter(None, (about.name, about.stage)))
