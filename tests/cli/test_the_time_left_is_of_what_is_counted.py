"""How long a step still takes is told by the pace of what it counts now."""

import io

import pytest

from tunewright.cli import progress


@pytest.fixture
def told(monkeypatch):
    """Events at their times; what was said last."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    stream.isatty = lambda: True
    teller = progress.Progress(stream)

    def at(seconds, **event):
        clock[0] = float(seconds)
        teller.hear({"step": "evaluate", **event})
        return stream.getvalue().rpartition("\r")[2]

    return at


def test_the_next_evaluation_of_a_step_is_counted_from_its_own_beginning(told):
    told(0, event="step", status="started")
    assert "50.0 s left" not in told(1, event="progress", what="tone", done=1, of=50)
    assert "20 s left" in told(30, event="progress", what="tone", done=30, of=50)
    told(50, event="progress", what="tone", done=50, of=50)
    assert "1 min 38 s left" in told(52, event="progress", what="queue", done=1, of=50)


def test_rows_that_end_together_are_no_pace(told):
    told(0, event="step", status="started")
    assert "left" not in told(60, event="progress", what="tone", done=30, of=50), "when they began nobody knows"
    assert "left" in told(61, event="progress", what="tone", done=40, of=50)


def test_a_training_that_was_taken_up_begins_in_its_middle(told):
    training = {"event": "train", "loss": 1.0, "tokens_per_second": 10.0, "optimizer_steps": 1000}
    told(0, event="step", status="started")
    told(5, optimizer_step=901, **training)
    assert "48 s left" in told(55, optimizer_step=951, **training)
