"""Trackers hear a run and cannot hurt it: each has a thread of its own, a short queue, and a few seconds at the end.

    with Trackers(resolved.trackers, TrackedRun("acme-support"), warn) as trackers:
        trackers.hear(event)  # each event of the run

`hear` waits for nobody: where a tracker is slow, the oldest numbers are left out and counted. What a tracker raises,
`SystemExit` among it, switches it off. One that hangs is left alone at the end: its thread is a daemon, so the process
ends all the same. Each of these becomes one event, `{"event": "tracker-failed", "tracker": …, "why": …}`, which `warn`
gets on the run's own thread. Off the main thread Python lets nobody put in a signal handler, and what a tracker prints
on stdout is dropped there: stdout is the run's own.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Any, NamedTuple

from tunewright.parts import Tracker
from tunewright.parts.tracker import Plain, TrackedRun
from tunewright.secrets import redact

LONGEST = 1000  # messages that wait for a tracker; the oldest is left out for one more
PATIENCE = 5.0  # seconds that a run waits at its end, for all its trackers together
LONGEST_TEXT = 500  # characters of an argument, or of why a tracker failed

HEARD: Mapping[str, str] = {"train": "", "validation": "validation_"}
"""Events with numbers, and what is put before their names."""
NO_VALUES = frozenset({"optimizer_step", "optimizer_steps", "seq"})

Warn = Callable[[Mapping[str, Any]], None]


class Trackers:
    """All trackers of a run. Threads start with the first number, so a run that trains nothing opens no tracker.

    `about.stage` is filled in from the events; of `about.arguments` secrets and folders of this machine are taken out.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        about: TrackedRun,
        warn: Warn,
        *,
        longest: int = LONGEST,
        patience: float = PATIENCE,
    ) -> None:
        self._warn, self._patience = warn, patience
        told = TrackedRun(redact(about.name), "", dict(_flat(about.arguments)))
        self._threads = [_Thread(one, name, told, longest) for name, one in _named(trackers)]
        self._stdout: _Hushed | None = None

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hear(self, event: Mapping[str, Any]) -> None:
        """Pass on the numbers of an event, and the end of a training; any other event is nothing to a tracker."""
        message = _message(event)
        if message is not None and (message.values is not None or self._stdout is not None):
            self._start()
            for thread in self._threads:
                thread.put(message)
        self._report()

    def close(self) -> None:
        """Wait for what is under way, `patience` seconds at most, and leave alone whoever takes longer."""
        started = [thread for thread in self._threads if thread.ident is not None]
        until = time.monotonic() + self._patience
        try:
            for thread in started:
                thread.finish()
            for thread in started:
                thread.join(max(0.0, until - time.monotonic()))
                thread.settle(self._patience)
        finally:
            if not any(thread.is_alive() for thread in started):  # whoever hangs may yet print
                self._unhush()
        self._report()

    def _start(self) -> None:
        if self._threads and self._stdout is None:
            self._stdout = sys.stdout = _Hushed(sys.stdout)  # type: ignore[assignment]
            for thread in self._threads:
                thread.start()

    def _unhush(self) -> None:
        if self._stdout is not None and sys.stdout is self._stdout:
            sys.stdout = self._stdout.stream

    def _report(self) -> None:
        for thread in self._threads:
            why = thread.take_why()
            if why:
                self._warn({"event": "tracker-failed", "tracker": thread.name, "why": why})


class _Message(NamedTuple):
    """Numbers of one step; no numbers: the stage is over."""

    stage: str
    step: int = 0
    values: Mapping[str, float] | None = None


def _message(event: Mapping[str, Any]) -> _Message | None:
    stage, step = redact(str(event.get("step", ""))), event.get("optimizer_step")
    before = HEARD.get(event.get("event", ""))
    if before is not None and isinstance(step, int):
        found = {redact(f"{before}{name}"): float(value) for name, value in event.items()
                 if name not in NO_VALUES and isinstance(value, Real) and not isinstance(value, bool)}  # fmt: skip
        return _Message(stage, step, found) if found else None
    over = event.get("event") == "failed" or (event.get("event") == "step" and event.get("status") == "done")
    return _Message(stage) if over else None


class _Thread(threading.Thread):
    """One tracker, its queue and what went wrong with it. All that two threads touch is behind `_changed`."""

    def __init__(self, tracker: Tracker, name: str, about: TrackedRun, longest: int) -> None:
        super().__init__(name=name, daemon=True)
        self._tracker, self._about, self._longest = tracker, about, longest
        self._queue: deque[_Message] = deque()
        self._changed = threading.Condition()
        self._finishing = self._off = self._told = False
        self._why = ""
        self._heard = self._left_out = 0

    def put(self, message: _Message) -> None:
        """Queue a message; of a full queue the oldest numbers are left out, never the end of a stage."""
        with self._changed:
            if self._off:
                return
            self._heard += message.values is not None
            if len(self._queue) >= self._longest:
                oldest = next((place for place, one in enumerate(self._queue) if one.values is not None), None)
                if oldest is not None:
                    del self._queue[oldest]
                    self._left_out += 1
            self._queue.append(message)
            self._changed.notify()

    def finish(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def settle(self, patience: float) -> None:
        """The end: say what was left out, and that it hangs if it does."""
        with self._changed:
            waiting = sum(one.values is not None for one in self._queue)
            said = []
            if self._left_out or (waiting and not self._off):
                said.append(f"it was too slow: {self._left_out + waiting} of {self._heard} steps are not shown")
            if self.is_alive() and not self._off:
                said.append(f"it had not ended {patience:g} s after the run, and was left alone")
            self._why = self._why or "; ".join(said)
            self._off = True
            self._queue.clear()

    def take_why(self) -> str:
        """What went wrong, once."""
        with self._changed:
            if not self._why or self._told:
                return ""
            self._told = True
            return self._why

    def run(self) -> None:
        _here.hushed = True
        try:
            self._tell()
        except BaseException as error:  # a tracker that calls `sys.exit` ends its thread, not the run
            self._fail(error)

    def _tell(self) -> None:
        for stage, messages in self._stages():
            tracking = self._tracker.open(self._about._replace(stage=stage))
            try:
                for message in messages:
                    tracking.log(message.step, message.values or {})
            except BaseException as error:
                self._fail(error)  # before it is closed, which may hang
                with contextlib.suppress(BaseException):
                    tracking.close()
                return
            tracking.close()

    def _stages(self) -> Iterator[tuple[str, Iterator[_Message]]]:
        while (first := self._next()) is not None:
            if first.values is not None:
                yield first.stage, self._of(first)

    def _of(self, first: _Message) -> Iterator[_Message]:
        """The messages of one stage, up to its end."""
        message: _Message | None = first
        while message is not None and message.values is not None:
            yield message
            message = self._next(first.stage)

    def _next(self, stage: str | None = None) -> _Message | None:
        """The next message; none where nothing more will come, or where it is of another stage than `stage`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._finishing or self._off)
            if not self._queue or (stage is not None and self._queue[0].stage != stage):
                return None
            return self._queue.popleft()

    def _fail(self, error: BaseException) -> None:
        words = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        with self._changed:
            self._why = self._why or redact(words)[:LONGEST_TEXT]
            self._off = True
            self._queue.clear()


def _named(trackers: Sequence[Tracker]) -> Iterator[tuple[str, Tracker]]:
    """Each by its kind; of several of one kind, the second is `kind-2`."""
    seen: dict[str, int] = {}
    for tracker in trackers:
        seen[tracker.kind] = seen.get(tracker.kind, 0) + 1
        number = seen[tracker.kind]
        yield tracker.kind if number == 1 else f"{tracker.kind}-{number}", tracker


def _flat(arguments: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Plain]]:
    """`{"trainer": {"epochs": 2}}` as `trainer.epochs`; lists as JSON writes them."""
    for name, value in arguments.items():
        way = redact(f"{before}{name}")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{way}.")
        elif isinstance(value, str):
            yield way, _text(value)
        elif isinstance(value, (list, tuple)):
            told = [_text(one) if isinstance(one, str) else one for one in value]
            yield way, _text(json.dumps(told, default=str, ensure_ascii=False))
        elif value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
            yield way, value
        else:
            yield way, _text(str(value))


def _text(value: str) -> str:
    """Without secrets, and of a whole path its last name alone: where this machine keeps it is nobody's business."""
    for path in (PurePosixPath(value.removeprefix("file://")), PureWindowsPath(value)):
        if path.is_absolute() or value.startswith("~"):
            return redact(f"…/{path.name}")
    told = redact(value)
    return told if len(told) <= LONGEST_TEXT else f"{told[:LONGEST_TEXT]}…"


class _Here(threading.local):
    hushed = False


_here = _Here()


class _Hushed:
    """stdout to everybody but the trackers' threads, which write to nowhere."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if _here.hushed else int(self.stream.write(text) or 0)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
