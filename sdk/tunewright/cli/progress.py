"""Progress on stderr: one live line at a terminal, plain lines elsewhere; what is done, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tunewright.pipeline.meter import resident

EVERY = 10.0  # seconds between two plain lines of one step
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
            self._count(event["step"], "training", event["optimizer_step"], event["optimizer_steps"], _training(event))
        elif kind in _SAID:
            self._line(f"{event['step']:<16} {_SAID[kind].format(**event)}")
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
            self._live(f"{name} …")
        elif status == "cached":
            self._line(f"{name:<16} reused")
        else:
            memory = f"{event['peak_rss_bytes'] / 1e9:.1f} GB"
            self._line(f"{name:<16} done in {clock(event['seconds'])}, peak memory {memory}")

    def _count(self, step: str, what: str, done: int | None, of: int | None, more: str) -> None:
        text = f"{step:<16} {what}"
        if done is not None:
            text += f" {done}" + (f" of {of}" if of else "")
            left = self._left(f"{step} {what}", done, of) if of and 0 < done < of else None
            text += f", {clock(left)} left" if left is not None else ""
        text += f", {more}" if more else ""
        if self.live:
            self._live(text)
        elif time.monotonic() - self.last >= EVERY or done is None:
            self.last = time.monotonic()
            self._line(text)

    def _left(self, counted: str, done: int, of: int) -> float | None:
        """By the pace since this process began to count: a training that was taken up begins in its middle."""
        now = time.monotonic()
        if self.counted[0] != counted or done < self.counted[1]:
            self.counted = (counted, done - 1, self.heard if done == 1 else now)
        _, before, since = self.counted
        return (now - since) / (done - before) * (of - done) if now > since else None

    def _live(self, text: str) -> None:
        if self.live:
            self._clear()
            self.stream.write(text[:79])
            self.stream.flush()
            self.width = len(text[:79])

    def _line(self, text: str) -> None:
        self._clear()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.width:
            self.stream.write(f"\r{' ' * self.width}\r")
            self.width = 0


def _training(event: Mapping[str, Any]) -> str:
    return f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s, {resident() / 1e9:.1f} GB"


def clock(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
