"""Where the course of a training is shown besides: a dashboard, a file, a server. It changes no result.

A complete tracker, which writes one line a step into a file:

    import json
    from typing import Annotated

    from pydantic import Field, PositiveInt
    from tunewright.parts import Options, SpecPath, Tracker
    from tunewright.parts.tracker import Tracking
    from tunewright.testing import check_tracker

    class LinesOptions(Options):
        kind: str = "lines"
        path: Annotated[SpecPath, Field(description="The file; lines are put at its end.")]
        digits: Annotated[PositiveInt, Field(description="Digits after the point.")] = 4

    class Lines(Tracker[LinesOptions]):
        kind, Options = "lines", LinesOptions
        reads = frozenset({"path", "digits"})

        def open(self, about):  # once for each training of a run, on a thread of this tracker
            return Written(self.options, about)

    class Written(Tracking):
        def __init__(self, options, about):
            self.digits = options.digits
            self.file = options.path.path.open("a")
            self.write({"run": about.name, "stage": about.stage, **about.arguments})

        def log(self, step, values):
            rounded = {name: round(value, self.digits) for name, value in values.items()}
            self.write({"step": step, **rounded})

        def close(self):
            self.file.close()

        def write(self, line):
            self.file.write(json.dumps(line) + "\\n")
            self.file.flush()

    def test_it_keeps_its_contract(tmp_path):
        check_tracker(Lines, {"path": tmp_path / "log.jsonl"}, folder=tmp_path / "kit")

A tracker may be down, slow or refuse: the core keeps it on a thread of its own and waits for it nowhere but a few
seconds at the end. Whatever it raises switches it off and becomes one warning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from tunewright.parts.base import Backend, O

Plain = str | int | float | bool | None


class TrackedRun(NamedTuple):
    """All that a tracker is told of a training besides its numbers: no environment, no secret, no folder's place.

    `stage` is the pipeline's step, as in `train` or `train-sft`; `arguments` are flat, as in `trainer.epochs`.
    """

    name: str
    stage: str = ""
    arguments: Mapping[str, Plain] = {}


class Tracking(ABC):
    """One training as it is shown. Both methods are called on the thread that opened it, and on no other."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of one optimizer step, counted from 1; steps come in order and may be left out.

        Of training: `loss` (nats per supervised token), `learning_rate`, `tokens_per_second`, `epoch`, and the bytes
        that the process holds (`rss_bytes`) and has taken of its GPU (`device_bytes`); of validation `loss`, with
        `validation_` before it.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish, and end every thread and connection. Called once, also after `log` failed."""


class Tracker(Backend[O]):
    """Shows the course of trainings. It is never part of a key: with or without it, the same run gives the same."""

    part: ClassVar[str] = "tracker"

    @abstractmethod
    def open(self, about: TrackedRun) -> Tracking:
        """Begin to show one training. Raises what it likes: the training goes on without it, with a warning.

        Called when the training's first numbers come: the libraries that it trains with are imported by then.
        """
