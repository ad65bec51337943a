"""Progress on stderr: one live line at a terminal, plain lines elsewhere; what is done, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

EVERY = 10.0  # seconds between two plain lines of one step


class Progress:
    """Hears a run's events and tells a person."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self.began = self.last = time.monotonic()
        self.width = 0

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
        elif kind == "progress":
            self._count(event["step"], event["what"], event.get("done"), event.get("of"), "")

    def counter(self, what: str) -> Callable[[int], None]:
        """A callback that hears how many rows are done."""
        self.began = time.monotonic()
        return lambda done: self._count("predict", what, done, None, "")

    def _step(self, event: Mapping[str, Any]) -> None:
        name, status = event["step"], event["status"]
        if status == "started":
            self.began, self.last = time.monotonic(), 0.0
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
            text += f", {clock(self._left(done, of))} left" if of and 0 < done < of else ""
        text += f", {more}" if more else ""
        if self.live:
            self._live(text)
        elif time.monotonic() - self.last >= EVERY or done is None:
            self.last = time.monotonic()
            self._line(text)

    def _left(self, done: int, of: int) -> float:
        return (time.monotonic() - self.began) / done * (of - done)

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
    return f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"


def clock(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
