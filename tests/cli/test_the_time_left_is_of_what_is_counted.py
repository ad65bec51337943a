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
    told(52, event="progress", what="queue", done=1, of=50)
    assert "1 min 36 s left" in told(54, event="progress", what="queue", done=2, of=50)


def test_rows_that_end_together_are_no_pace(told):
    told(0, event="step", status="started")
    assert "left" not in told(60, event="progress", what="tone", done=30, of=50), "when they began nobody knows"
    assert "left" in told(61, event="progress", what="tone", done=40, of=50)


def test_a_training_that_was_taken_up_begins_in_its_middle(told):
    training = {"event": "train", "loss": 1.0, "tokens_per_second": 10.0, "optimizer_steps": 1000}
    told(0, event="step", status="started")
    told(5, optimizer_step=901, **training)
    assert "49 s left" in told(55, optimizer_step=951, **training)


def test_the_first_answer_of_a_batch_tells_no_pace(told):
    """The rows of one batch come all at once, after the model was opened: by the first of them it would be hours."""
    assert "left" not in told(20, event="progress", what="tone", done=1, of=400)
    assert "80 s left" in told(30, event="progress", what="tone", done=109, of=400)
    assert "27 s left" in told(41, event="progress", what="tone", done=241, of=400)


@pytest.mark.parametrize(
    ("again", "left"),
    [((1, 2, 40), "4 min 30 s"), ((7, 16, 40), "3 min 38 s"), ((8, 16, 40), "3 min 45 s"), ((9, 20, 40), "3 min 52 s")],
)
def test_what_is_counted_again_has_a_pace_of_its_own(told, again, left):
    """The certificate asks one form after the other the same rows; what comes in a batch begins at any count."""
    counts = (8, 200, 399, *again)
    *_, said = [told(10 * at, event="progress", what="tone", done=done, of=400) for at, done in enumerate(counts)]
    assert said == f"evaluate tone 40 of 400, {left} left"
