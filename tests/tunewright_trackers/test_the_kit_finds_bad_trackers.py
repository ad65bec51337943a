"""What a tracker can do wrong is told by the kit, and a sound one passes."""

from __future__ import annotations

import json
import os
import threading
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from tunewright.parts import Options, SpecPath, Tracker
from tunewright.parts.tracker import Tracking
from tunewright.testing import NonConforming, check, check_tracker, contract

ENDLESS = threading.Event()


class LinesOptions(Options):
    kind: str = "lines"
    path: Annotated[SpecPath, Field(description="The file.")]


class Lines(Tracker[LinesOptions]):
    kind, Options = "lines", LinesOptions
    reads = frozenset({"path"})

    def open(self, about):
        return Written(self, about)

    def line(self, step, values):
        return {"step": step, **values}

    def begin(self, about):
        return {"run": about.name, "stage": about.stage}

    def end(self):
        pass


class Written(Tracking):
    def __init__(self, tracker, about):
        self.tracker = tracker
        self.write(tracker.begin(about))

    def log(self, step, values):
        self.write(self.tracker.line(step, values))

    def close(self):
        self.tracker.end()

    def write(self, line):
        with self.tracker.options.path.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class ShowsNothing(Lines):
    def open(self, about):
        return Silent()


class Silent(Tracking):
    def log(self, step, values):
        pass

    def close(self):
        pass


class DropsNumbers(Lines):
    def line(self, step, values):
        return {"step": step}


class ShowsTheEnvironment(Lines):
    def begin(self, about):
        return {name: value for name, value in os.environ.items() if name.startswith("TUNEWRIGHT_")}


class GivesNoTracking(Lines):
    def open(self, about):
        return self.options.path.path.write_text(about.stage)


class LeavesAThread(Lines):
    def end(self):
        threading.Thread(target=ENDLESS.wait, name="sender", daemon=True).start()


class LeavesAVariable(Lines):
    def begin(self, about):
        os.environ["ACME_RUN"] = about.stage
        return {}


class BreaksOnNaN(Lines):
    def line(self, step, values):
        return {name: int(value) for name, value in values.items()} | values


class Changes(Lines):
    calls: ClassVar[list] = []

    def begin(self, about):
        self.calls.append(about)
        return {"call": len(self.calls)}


BAD = {
    ShowsNothing: "bad-contract",
    DropsNumbers: "bad-contract",
    ShowsTheEnvironment: "bad-contract",
    GivesNoTracking: "bad-contract",
    LeavesAThread: "state-left-behind",
    LeavesAVariable: "state-left-behind",
    BreaksOnNaN: "foreign-exception",
    Changes: "non-deterministic",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Importing in a fresh process says nothing of these; and whoever waits is let go."""
    monkeypatch.setattr(contract, "check_import", lambda *told: None)
    yield
    os.environ.pop("ACME_RUN", None)
    ENDLESS.set()
    ENDLESS.clear()


def test_a_sound_one_passes(tmp_path):
    check(Lines, {"path": tmp_path / "log.jsonl"}, folder=tmp_path / "kit")
    assert not (tmp_path / "log.jsonl").exists(), "the kit lets it write in folders of its own"


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_bad_one_is_told(bad, tmp_path):
    with pytest.raises(NonConforming) as caught:
        check_tracker(bad, {"path": tmp_path / "log.jsonl"}, folder=tmp_path / "kit")
    assert BAD[bad] in caught.value.codes, str(caught.value)
