"""The live line is whole at 80 columns, follows the window, and tells the memory that runs short."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tunewright.cli import progress
from tunewright.pipeline import meter

TRAINING = {
    "event": "train",
    "step": "train-preference",
    "optimizer_step": 12_345,
    "optimizer_steps": 123_456,
    "loss": 12.3456,
    "tokens_per_second": 123_456.7,
    "rss_bytes": 1_234_567_890,
}


@pytest.fixture
def clock(monkeypatch):
    """The time as a test sets it."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


@contextmanager
def terminal(columns):
    """A stream whose terminal has so many columns, and which keeps what is written to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    stream = io.StringIO()
    stream.isatty, stream.fileno = lambda: True, lambda: theirs
    try:
        yield stream
    finally:
        os.close(ours)
        os.close(theirs)


def line(clock, columns, **changes):
    """What stands there after a training has done 11,111 steps in this process at 0.41 s a step."""
    with terminal(columns) as stream:
        told = progress.Progress(stream)
        told.hear({**TRAINING, "optimizer_step": 1_234, **changes})
        clock.seconds += 0.41 * 11_111
        told.hear({**TRAINING, **changes})
        return stream.getvalue().rpartition("\r")[2]


def test_big_numbers_are_whole_at_80_columns(clock):
    said = line(clock, 80)
    assert len(said) <= 79
    assert said.endswith("12345 of 123456, 12 h 39 min left, loss 12.346, 123k tok/s, 1.2 GB")
    assert said.startswith("train-p")


def test_of_a_gpu_its_own_memory_is_told(clock):
    said = line(clock, 80, device_bytes=139_200_000_000)
    assert len(said) <= 79
    assert said.endswith("left, loss 12.346, 123k tok/s, 139 GB of GPU")


def test_a_usual_line_is_not_cut(clock):
    usual = {"step": "train-taste", "optimizer_steps": 13_000, "loss": 0.6931, "tokens_per_second": 9_876.0}
    said = line(clock, 80, **usual)
    assert said == "train-taste 12345 of 13000, 4 min 29 s left, loss 0.693, 9,876 tok/s, 1.2 GB"


def test_a_wide_terminal_has_room_for_the_name_and_a_narrow_one_is_not_overrun(clock):
    name = "train-" + "preference" * 3
    assert line(clock, 200, step=name).startswith(f"{name} 12345 of 123456, ")
    said = line(clock, 40, step=name)
    assert len(said) == 39
    assert said.startswith("… 12345 of 123456, ")


def test_a_terminal_that_tells_no_width_has_80_columns(clock):
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress.Progress(stream).hear({**TRAINING, "step": "x" * 100})
    assert len(stream.getvalue()) == 79
    assert len(line(clock, 0, step="x" * 100)) == 79


def test_a_diverging_loss_takes_no_more_room(clock):
    assert "loss 1.23e+08, " in line(clock, 80, loss=123_456_789.0)


def test_a_step_that_is_done_tells_the_devices_peak(clock):
    done = {"event": "step", "step": "train", "status": "done", "seconds": 12.0, "peak_rss_bytes": 3_000_000_000}
    for more, said in (
        ({}, "peak memory 3.0 GB\n"),
        ({"peak_device_bytes": 41_000_000_000}, "peak memory 41.0 GB of GPU\n"),
    ):
        stream = io.StringIO()
        progress.Progress(stream).hear({**done, **more})
        assert stream.getvalue() == f"train            done in 12 s, {said}"


def test_the_device_is_asked_where_torch_uses_one(monkeypatch):
    assert meter.held_on_device() == 0
    monkeypatch.setattr(meter, "_cuda", lambda: SimpleNamespace(memory_reserved=lambda: 7))
    assert meter.held_on_device() == 7
