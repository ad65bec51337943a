"""Every tracker of ours passes the kit, read back by its own library; trackio and wandb through stand-ins."""

from __future__ import annotations

import arrivals
import pytest
import stand_ins

import tunewright_trackers
from tunewright.testing import check_tracker
from tunewright_trackers.mlflow import MlflowTracker
from tunewright_trackers.tensorboard import TensorboardTracker
from tunewright_trackers.trackio import TrackioTracker
from tunewright_trackers.wandb import WandbTracker

CHECKED = (MlflowTracker, TensorboardTracker, TrackioTracker, WandbTracker)


def test_all_are_here():
    brought = set(tunewright_trackers.tunewright_backends().values())
    assert brought == {f"{one.__module__}:{one.__qualname__}" for one in CHECKED}


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    read = lambda options: arrivals.of_tensorboard(options.dir.path)  # noqa: E731
    check_tracker(TensorboardTracker, {"dir": tmp_path / "tb"}, folder=tmp_path / "kit", arrived=read)


def test_mlflow(tmp_path):
    pytest.importorskip("mlflow")
    read = lambda options: arrivals.of_mlflow(options.dir.path)  # noqa: E731
    check_tracker(MlflowTracker, {"dir": tmp_path / "runs"}, folder=tmp_path / "kit", arrived=read)


def kept(runs, seen=0):
    """What the runs since the last call were told."""

    def read(options):
        nonlocal seen
        new, seen = runs[seen:], len(runs)
        return [{"name": run.name, "settings": {**run.settings, "root_dir": ""}, "config": dict(run.config),
                 "logged": run.logged, "finished": run.finished, "dir": _name(options)} for run in new]  # fmt: skip

    return read


def _name(options):
    return options.dir.path.name if hasattr(options, "dir") else ""


def test_trackio(tmp_path, monkeypatch):
    runs, _ = stand_ins.trackio(monkeypatch)
    check_tracker(TrackioTracker, folder=tmp_path, arrived=kept(runs))


def test_wandb(tmp_path, monkeypatch):
    runs = stand_ins.wandb(monkeypatch)
    check_tracker(WandbTracker, {"dir": tmp_path / "wb"}, folder=tmp_path / "kit", arrived=kept(runs))
