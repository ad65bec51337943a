"""Progress on stderr: one live line at a terminal, plain lines elsewhere; what is done, and the time left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tunewright.harmless import harmless

EVERY = 10.0  # seconds between two plain lines of one step
COLUMNS = 80  # of a terminal that does not tell
NAMED = 16  # columns of a step's name in plain lines
KNOWN = 0.03  # part of the work after which its pace is known
_SAID = {
    "resumed": "goes on from its checkpoint after step {resumed_from}",
    "validation": "validation loss {loss:.4f} after step {optimizer_step}",
    "stopping": "{why}",
    "tracker-failed": "tracker {tracker} failed and is off: {why}",
}
"""Events that are a line of their own."""


class Progress:
    """Hears a run's events and tells a person."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self.heard = self.last = time.monotonic()
        self.width = 0
        self.counted: tuple[str, int, float] = ("", 0, self.heard)  # what is counted, how much was done, when
        self.reached = 0  # of it, by the last event

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def hear(self, event: Mapping[str, Any]) -> None:
        """One event of a run."""
        kind = event["event"]
        if kind == "step":
            self._step(event)
        elif kind == "train":
            self._count(event["step"], "", event["optimizer_step"], event["optimizer_steps"], _training(event))
        elif kind in _SAID:
            self._line(f"{event['step']:<{NAMED}} {_SAID[kind].format(**event)}")
        elif kind == "progress":
            self._count(event["step"], event["what"], event.get("done"), event.get("of"), "")
        self.heard = time.monotonic()

    def counter(self, what: str) -> Callable[[int], None]:
        """A callback that hears how many rows are done."""
        return lambda done: self._count("predict", what, done, None, "")

    def _step(self, event: Mapping[str, Any]) -> None:
        name, status = event["step"], event["status"]
        if status == "started":
            self.last = 0.0
            self._live(name, "…")
        elif status == "cached":
            self._line(f"{name:<{NAMED}} reused")
        else:
            memory = _memory(event["peak_rss_bytes"], event.get("peak_device_bytes", 0))
            self._line(f"{name:<{NAMED}} done in {clock(event['seconds'])}, peak memory {memory}")

    def _count(self, step: str, what: str, done: int | None, of: int | None, more: str) -> None:
        text = what
        if done is not None:
            text = f"{what} {done}".lstrip() + (f" of {of}" if of else "")
            left = self._left(f"{step} {what}", done, of) if of and 0 < done < of else None
            text += f", {clock(left)} left" if left is not None else ""
        text += f", {more}" if more else ""
        if self.live:
            self._live(step, text)
        elif time.monotonic() - self.last >= EVERY or done is None:
            self.last = time.monotonic()
            self._line(f"{step:<{NAMED}} {text}")

    def _left(self, counted: str, done: int, of: int) -> float | None:
        """By the pace since this process began to count: a training that was taken up begins in its middle.

        None at first: the first answer waits for its whole batch, the first step for the model to be opened.
        """
        now = time.monotonic()
        if self.counted[0] != counted or done < self.reached:  # anew: one form after the other is asked the same
            self.counted = (counted, 0, self.heard) if done == 1 else (counted, done, now)
        self.reached = done
        _, before, since = self.counted
        known = done - before >= max(2, KNOWN * (of - before)) and now > since
        return (now - since) / (done - before) * (of - done) if known else None

    def _live(self, step: str, text: str) -> None:
        """One line, whose place the next one takes. Where it is too long the step's name gives way: it is known."""
        if self.live:
            self._clear()
            room = self._columns() - 1  # a terminal goes to the next line after its last column
            line = _cut(f"{_cut(step, max(room - len(text) - 1, 1))} {text}", room)
            self.stream.write(line)
            self.stream.flush()
            self.width = len(line)

    def _columns(self) -> int:
        """Asked each time: a window may be made narrower under way."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or COLUMNS
        except (OSError, ValueError):
            return COLUMNS

    def _line(self, text: str) -> None:
        self._clear()
        self.stream.write(f"{harmless(text)}\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.width:
            self.stream.write(f"\r{' ' * self.width}\r")
            self.width = 0


def _training(event: Mapping[str, Any]) -> str:
    loss, speed = event["loss"], event["tokens_per_second"]
    shown = f"{loss:.3f}" if abs(loss) < 1000 else f"{loss:.3g}"
    told = f"{speed:,.0f}" if speed < 10_000 else f"{speed / 1000:,.0f}k"
    memory = _memory(event.get("rss_bytes", 0), event.get("device_bytes", 0))
    return f"loss {shown}, {told} tok/s, {memory}"


def _memory(resident: int, device: int) -> str:
    """The GPU's where one is used: it is what runs short."""
    size = (device or resident) / 1e9
    return f"{size:.{1 if size < 100 else 0}f} GB{' of GPU' if device else ''}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def clock(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `12 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
