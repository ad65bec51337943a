"""What a training holds is told step by step, also across an interruption, and decides over nothing."""

from __future__ import annotations

import json
import os
import signal
from itertools import count
from pathlib import Path

import pytest

from tunewright.errors import Interrupted
from tunewright.pipeline import along
from tunewright.pipeline.along import MEMORY, MOST, Along
from tunewright.project import Project


@pytest.fixture
def held(monkeypatch):
    """Makes the process hold a megabyte more at every look, on no GPU."""
    looks = count(1)
    monkeypatch.setattr(along, "resident", lambda: next(looks) * 1_000_000)
    monkeypatch.setattr(along, "held_on_device", lambda: 0)


def train(step):
    return {"event": "train", "optimizer_step": step}


def of(folder):
    """A training's notes on memory, and its outcome."""
    step = Path(folder) / "steps" / "train"
    manifest = json.loads((step / "manifest.json").read_text())
    return manifest["notes"]["memory"], (step / "outcome.json").read_bytes()


def interrupted(project, root):
    def stop(event):
        if event.get("event") == "train" and event["optimizer_step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        project.run(root, stop)


def test_a_run_tells_what_it_held_after_each_step(fake_spec, fake_host, tmp_path, held):
    summary = Project(fake_spec, (), fake_host).run(tmp_path / "root").summary
    memory, _ = of(summary["run_dir"])
    assert memory == [[step, step * 1_000_000, 0] for step in range(1, 7)]
    events = [json.loads(line) for line in (Path(summary["run_dir"]) / "events.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "train"]
    assert [event["rss_bytes"] for event in told] == [size for _, size, _ in memory]
    assert not any("device_bytes" in event for event in told)
    page = (Path(summary["run_dir"]) / "report.html").read_text()
    assert "MB after each optimizer step. The process holds 6.0 MB at most." in page


def test_what_was_held_before_an_interruption_is_not_lost(fake_spec, fake_host, tmp_path, held):
    project = Project(fake_spec, (), fake_host)
    interrupted(project, tmp_path / "root")
    memory, outcome = of(project.run(tmp_path / "root").summary["run_dir"])
    assert memory == [[step, step * 1_000_000, 0] for step in range(1, 7)]
    assert of(project.run(tmp_path / "whole").summary["run_dir"])[1] == outcome


def test_a_curve_that_cannot_be_read_stops_no_training(fake_spec, fake_host, tmp_path, held):
    project = Project(fake_spec, (), fake_host)
    interrupted(project, tmp_path / "root")
    (kept,) = (tmp_path / "root").rglob(MEMORY)
    kept.write_text("{torn")
    memory, _ = of(project.run(tmp_path / "root").summary["run_dir"])
    assert [step for step, *_ in memory] == [3, 4, 5, 6]


def test_steps_after_the_checkpoint_are_measured_anew(tmp_path, held):
    first = Along(tmp_path, lambda event: None)
    for step in (1, 2, 3):
        first.emit(train(step))
    first.keep()
    again = Along(tmp_path, lambda event: None, resumed=2)
    again.emit(train(3))
    assert [step for step, *_ in again.told()] == [1, 2, 3]
    assert again.told()[-1][1] == 4_000_000
    assert Along(tmp_path, lambda event: None).held == []


def test_a_long_training_tells_the_most_of_several_steps(tmp_path, monkeypatch):
    sizes = {7: 900}
    monkeypatch.setattr(along, "resident", lambda: sizes.get(len(long.held) + 1, 1))
    monkeypatch.setattr(along, "held_on_device", lambda: 5)
    long = Along(tmp_path, lambda event: None)
    for step in range(1, 4 * MOST + 2):
        long.emit(train(step))
    told = long.told()
    assert len(told) <= MOST
    assert told[1] == (10, 900, 5)
    assert told[-1][0] == 4 * MOST + 1


def test_where_the_system_says_nothing_nothing_is_told(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(along, "resident", lambda: 0)
    monkeypatch.setattr(along, "held_on_device", lambda: 0)
    silent = Along(tmp_path, heard.append)
    silent.emit(train(1))
    silent.emit({"event": "checkpoint", "optimizer_step": 1})
    assert silent.told() == []
    assert heard == [train(1), {"event": "checkpoint", "optimizer_step": 1}]
