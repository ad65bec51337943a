"""A tracker that is down, slow or refusing costs a run nothing but one warning that names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tunewright import secrets
from tunewright.parts import Options, Tracker
from tunewright.parts.tracker import TrackedRun, Tracking
from tunewright.pipeline.trackers import Trackers

ABOUT = TrackedRun("acme-support")
STEPS = 20
WHEN = ("open", "log", "close")


class Wilful(Tracker[Options]):
    """Does what it is told to at one place: `at` is open, log or close."""

    kind, Options = "wilful", Options

    def __init__(self, at="", does=lambda: None):
        self.at, self.does = at, does
        self.heard, self.told, self.threads = [], [], set()

    def open(self, about):
        self.told.append(about)
        self.meet("open")
        return Shown(self)

    def meet(self, place):
        self.threads.add(threading.current_thread())
        if place == self.at:
            self.does()


class Shown(Tracking):
    def __init__(self, tracker):
        self.tracker = tracker

    def log(self, step, values):
        self.tracker.meet("log")
        self.tracker.heard.append((step, dict(values)))

    def close(self):
        self.tracker.meet("close")
        self.tracker.heard.append("closed")


def train(step, stage="train", **more):
    return {"event": "train", "step": stage, "seq": step, "time": "now", "optimizer_step": step, "optimizer_steps": 99,
            "loss": 1.0 / step, "learning_rate": 1e-4, "epoch": 0.5, **more}  # fmt: skip


def run(*trackers, events=None, about=ABOUT, longest=1000, patience=0.3):
    """(events that the run sent, warnings): a run that emits, as the pipeline does."""
    sent, warned = [], []
    with Trackers(trackers, about, warned.append, longest=longest, patience=patience) as heard:
        for event in events or [train(step) for step in range(1, STEPS + 1)]:
            sent.append(event)
            heard.hear(event)
    return sent, warned


@pytest.fixture
def gate():
    """Whoever waits for it hangs until the test is over, and its thread ends then."""
    event, before = threading.Event(), sys.stdout
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("wilful"):
            thread.join(10)
    sys.stdout = before


def refuse():
    raise ConnectionError("the server\nsaid no")


@pytest.mark.parametrize("at", WHEN)
def test_one_that_raises_is_one_warning_and_the_others_go_on(at):
    bad, good = Wilful(at, refuse), Wilful()
    sent, warned = run(bad, good, patience=10)
    assert len(sent) == STEPS
    assert warned == [{"event": "tracker-failed", "tracker": "wilful", "why": "ConnectionError: the server said no"}]
    assert [entry[0] for entry in good.heard[:-1]] == list(range(1, STEPS + 1))
    assert good.heard[-1] == "closed"


@pytest.mark.parametrize("at", WHEN)
def test_one_that_hangs_is_left_alone_and_named(at, gate):
    hangs = Wilful(at, gate.wait)
    sent, warned = run(hangs)
    assert len(sent) == STEPS
    assert [(one["event"], one["tracker"]) for one in warned] == [("tracker-failed", "wilful")]
    assert "was left alone" in warned[0]["why"]


@pytest.mark.parametrize("at", WHEN)
def test_one_that_hangs_does_not_keep_the_process_from_ending(at, tmp_path):
    program = f"""
import sys, threading
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_trackers_cannot_hurt_a_run import Wilful, run
sent, warned = run(Wilful({at!r}, threading.Event().wait))
print(len(sent), len(warned))
"""  # noqa: PTH120
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(STEPS), "1"]), done.stderr


def test_of_one_that_is_slow_the_oldest_are_left_out_and_counted(gate):
    began = threading.Event()

    def wait():
        began.set()
        gate.wait()

    slow, warned = Wilful("open", wait), []
    with Trackers([slow], ABOUT, warned.append, longest=5, patience=10) as heard:
        heard.hear(train(1))
        assert began.wait(10)
        for step in range(2, STEPS + 1):
            heard.hear(train(step))
        gate.set()
    # step 1 was taken from the queue before it hung
    assert [entry[0] for entry in slow.heard[:-1]] == [1, *range(STEPS - 4, STEPS + 1)]
    (warning,) = warned
    assert warning["why"] == f"it was too slow: {STEPS - 6} of {STEPS} steps are not shown"


@pytest.mark.parametrize("at", WHEN)
@pytest.mark.parametrize("leave", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_one_that_wants_the_process_to_end_ends_itself_alone(leave, at):
    def end():
        raise leave

    sent, warned = run(Wilful(at, end), patience=10)
    assert len(sent) == STEPS
    assert [one["why"].partition(":")[0] for one in warned] == [type(leave).__name__]


def test_no_signal_handler_is_put_in():
    before = signal.getsignal(signal.SIGINT)
    _, warned = run(Wilful("open", lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)), patience=10)
    assert signal.getsignal(signal.SIGINT) is before
    assert "main thread" in warned[0]["why"]


def test_what_it_prints_does_not_stand_between_the_runs_own_lines(capsys):
    before = sys.stdout
    events = [train(step) for step in range(1, 4)]
    with Trackers([Wilful("log", lambda: print("* view it at …"))], ABOUT, print, patience=10) as heard:
        for event in events:
            heard.hear(event)
            print("own line", event["optimizer_step"])
    assert sys.stdout is before
    assert capsys.readouterr().out == "own line 1\nown line 2\nown line 3\n"


def test_numbers_come_in_order_and_only_numbers():
    tracker = Wilful()
    events = [train(1, note="text", on=True), {"event": "validation", "step": "train", "optimizer_step": 1, "loss": 2}]
    run(tracker, events=[*events, train(2), {"event": "note", "step": "train", "optimizer_step": 3, "loss": 9}])
    numbers = {"learning_rate": 1e-4, "epoch": 0.5}
    assert tracker.heard == [
        (1, {"loss": 1.0, **numbers}),
        (1, {"validation_loss": 2.0}),
        (2, {"loss": 0.5, **numbers}),
        "closed",
    ]


def test_each_stage_is_a_training_of_its_own_and_is_closed_when_it_ends():
    tracker = Wilful()
    over = {"event": "step", "step": "train-sft", "status": "done", "seconds": 1.0}
    run(tracker, events=[train(1, "train-sft"), over, train(1, "train-dpo"), train(2, "train-dpo")])
    assert [about.stage for about in tracker.told] == ["train-sft", "train-dpo"]
    assert [entry if entry == "closed" else entry[0] for entry in tracker.heard] == [1, "closed", 1, 2, "closed"]


def test_a_stage_whose_end_was_not_heard_ends_where_the_next_begins():
    tracker = Wilful()
    run(tracker, events=[train(1, "train-sft"), train(1, "train-dpo")], patience=10)
    assert [about.stage for about in tracker.told] == ["train-sft", "train-dpo"]
    assert [entry if entry == "closed" else entry[0] for entry in tracker.heard] == [1, "closed", 1, "closed"]


def test_a_run_that_trains_nothing_opens_nothing():
    tracker = Wilful()
    before = threading.active_count(), sys.stdout
    with Trackers([tracker], ABOUT, print) as heard:
        heard.hear({"event": "step", "step": "train", "status": "done"})
        heard.hear({"event": "step", "step": "train", "status": "cached"})
        assert (threading.active_count(), sys.stdout) == before
    assert tracker.told == []


def test_each_has_a_thread_of_its_own_and_no_work_is_done_on_the_runs():
    one, other = Wilful(), Wilful()
    run(one, other, patience=10)
    assert len(one.threads) == len(other.threads) == 1
    assert len(one.threads | other.threads | {threading.current_thread()}) == 3


def test_warnings_come_on_the_runs_own_thread_and_two_of_a_kind_are_told_apart():
    threads, warned = set(), []

    def warn(event):
        threads.add(threading.current_thread())
        warned.append(event["tracker"])

    with Trackers([Wilful("log", refuse), Wilful("log", refuse)], ABOUT, warn, patience=10) as heard:
        heard.hear(train(1))
    assert (sorted(warned), threads) == (["wilful", "wilful-2"], {threading.current_thread()})


def test_a_warning_may_be_an_event_that_trackers_hear():
    warned = []

    def warn(event):
        warned.append(event)
        heard.hear({**event, "step": "run", "seq": 1})

    with Trackers([Wilful("log", refuse)], ABOUT, warn, patience=10) as heard:
        heard.hear(train(1))
    assert len(warned) == 1


def test_a_run_that_fails_keeps_its_own_error(gate):
    with (
        pytest.raises(ValueError, match="the loss is nan"),
        Trackers([Wilful("close", gate.wait)], ABOUT, lambda event: None, patience=0.1) as heard,
    ):
        heard.hear(train(1))
        raise ValueError("the loss is nan")


def test_neither_secrets_nor_folders_of_this_machine_are_told(monkeypatch):
    monkeypatch.setenv("ACME_KEY", "canary-5f21")
    secrets.reveal("${env:ACME_KEY}")
    arguments = {
        "trainer": {"epochs": 2, "note": "key canary-5f21", "canary-5f21": 1},
        "adapter": {"targets": ["q_proj", "/srv/acme/canary-5f21"]},
        "model": "/home/acme/models/base",
        "cache": "~/acme/cache",
        "share": "C:\\acme\\rows",
        "url": "file:///srv/acme/rows.csv",
        "prompt": "x" * 10_000,
        "none": None,
    }
    tracker = Wilful("close", lambda: refuse_with("no canary-5f21 here"))
    about = TrackedRun("acme canary-5f21", "", arguments)
    _, warned = run(tracker, events=[train(1, "train-canary-5f21", **{"canary-5f21": 3})], about=about, patience=10)
    everything = repr((tracker.told, tracker.heard, warned))
    assert "canary" not in everything.replace("${env:ACME_KEY}", "")
    (told,) = tracker.told
    assert not any(place in repr(told) for place in ("/srv", "/home", "acme/cache", "C:"))
    assert told.arguments["trainer.epochs"] == 2
    assert told.arguments["model"] == "…/base"
    assert told.arguments["share"] == "…/rows"
    assert told.arguments["none"] is None
    assert len(told.arguments["prompt"]) == 501


def refuse_with(text):
    raise ConnectionError(text)
