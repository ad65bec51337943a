"""The kit for what shows the course of a training."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.digest import digest_file
from tunewright.parts import SpecPath, Tracker
from tunewright.parts.tracker import TrackedRun
from tunewright.testing.desk import Desk
from tunewright.testing.trial import Attempt, Exercise, Make
from tunewright.testing.violations import Report

ABOUT = TrackedRun("kit", "train", {"trainer.epochs": 2, "trainer.learning_rate": 0.0002, "adapter.kind": "lora"})
NEXT = ABOUT._replace(stage="train-again")
STEPS: tuple[tuple[int, Mapping[str, float]], ...] = (
    (1, {"loss": 2.3025850929940457, "learning_rate": 0.0002, "tokens_per_second": 512.123456789, "epoch": 0.25}),
    (2, {"loss": 1.6094379124341003, "learning_rate": 0.0001, "tokens_per_second": 498.987654321, "epoch": 0.5}),
    (2, {"validation_loss": 1.7917594692280550, "validation_epoch": 0.5}),
    (4, {"loss": 1.0986122886681098, "learning_rate": 0.00005, "tokens_per_second": 505.111111111, "epoch": 1.0}),
)
"""The numbers of four events; a step is left out, as where a tracker is slow."""
OTHER: tuple[tuple[int, Mapping[str, float]], ...] = tuple(
    (step, {name: value * 3 for name, value in values.items()}) for step, values in STEPS
)
CANARY = "TUNEWRIGHT_KIT_CANARY"
SECRET = "canary-8c41f7"
"""A variable of the environment, and a value that must not be found in anything that is shown."""

Arrived = Callable[[Any], Any]


class TrackerExercise(Exercise):
    """Two trainings shown one after the other, on a thread as the core does it."""

    part = "tracker"

    def __init__(self, arrived: Arrived | None = None) -> None:
        self.arrived = arrived

    def run(self, made: Tracker, desk: Desk, report: Report) -> Any:
        moved, folder = _moved(made, desk)
        empty = self._found(moved, folder)
        with _canary():
            aside(partial(_shown, moved, (ABOUT, STEPS), (NEXT, OTHER), report=report))
            found = self._found(moved, folder)
        says = "nothing of what it was given to show can be found: write it, or give the check `arrived`"
        report.expect(found != empty, "bad-contract", says)
        self._heeds(made, found, desk, report)
        spilt = SECRET in json.dumps(found, default=str) or any(SECRET.encode() in raw for raw in _raw(folder))
        report.expect(not spilt, "bad-contract", "it shows the environment's variables: they may be secrets")
        return found

    def _heeds(self, made: Tracker, found: Any, desk: Desk, report: Report) -> None:
        """Other numbers show as other numbers."""
        moved, folder = _moved(made, desk)
        aside(partial(_shown, moved, (ABOUT, OTHER), (NEXT, STEPS), report=report))
        says = "two different trainings look the same in what it shows"
        report.expect(self._found(moved, folder) != found, "bad-contract", says)

    def _found(self, made: Tracker, folder: Path) -> Any:
        if self.arrived is not None:
            return self.arrived(made.options)
        return {
            str(path.relative_to(folder)): digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, _ = _moved(make(), desk)
        odd = {
            "no numbers": {},
            "what is no number": {"loss": float("nan")},
            "an infinite number": {"loss": float("inf")},
        }
        for what, values in odd.items():
            call = partial(aside, partial(_shown, made, (ABOUT, ((1, values),)), report=Report()))
            yield Attempt(what, call)
        for what, about in {
            "a run without arguments": TrackedRun("kit"),
            "a long argument": ABOUT._replace(arguments={"data.format": "again " * 2000}),
            "a letter of another script": ABOUT._replace(arguments={"name": "Prüfung – 試験"}),
        }.items():
            yield Attempt(what, partial(aside, partial(_shown, made, (about, STEPS), report=Report())))


def _shown(made: Tracker, *trainings: tuple[TrackedRun, Any], report: Report) -> None:
    for about, steps in trainings:
        tracking = made.open(about)
        whole = callable(getattr(tracking, "log", None)) and callable(getattr(tracking, "close", None))
        if not report.expect(whole, "bad-contract", f"`open` gives {tracking!r}, it must give a Tracking"):
            return
        try:
            for step, values in steps:
                tracking.log(step, values)
        finally:
            tracking.close()


def aside(call: Callable[[], None]) -> None:
    """Call it on a thread of its own, as the core does; what it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="tracker")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _moved(made: Tracker, desk: Desk) -> tuple[Tracker, Path]:
    """The same with each of its paths in a new folder that it may write in, under its own last name."""
    folder = desk.give("tracker")
    paths = {name: SpecPath(value.path.name, folder) for name, value in made.options if isinstance(value, SpecPath)}
    return type(made)(made.options.model_copy(update=paths)), folder


@contextmanager
def _canary() -> Iterator[None]:
    """Within it a secret stands in the environment."""
    os.environ[CANARY] = SECRET
    try:
        yield
    finally:
        os.environ.pop(CANARY, None)


def _raw(folder: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
