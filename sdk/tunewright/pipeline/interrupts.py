"""Ctrl-C and SIGTERM: asked once, a run stops where nothing is lost; asked twice, it stops at once.

While a training runs, the first signal is kept until the trainer has committed a checkpoint. Anywhere else there is
nothing to wait for: what is finished is committed, what is not is begun again by the next run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tunewright.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Hears signals while it is entered; outside of the main thread, where none can be heard, it does nothing."""

    def __init__(self, told: Callable[[str], None] = lambda text: None) -> None:
        self.asked: int | None = None
        self._told, self._held, self._untold = told, False, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._hear) for signum in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the first signal: whoever holds it asks `stopping` and comes to an end by itself."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def stopping(self) -> bool:
        """Whether a signal has come."""
        if self._untold:
            self._tell()
        return self.asked is not None

    def obey(self) -> None:
        """Raise `Interrupted` where a signal was kept."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def _hear(self, signum: int, frame: Any) -> None:
        if self.asked is not None:
            os._exit(128 + signum)  # nothing is tidied up: what is committed is whole, the rest does not exist
        self.asked = signum
        if not self._held:
            raise Interrupted(signum)
        try:
            self._tell()
        except RuntimeError:  # the signal came while a line was being written, and no other can be written into it
            self._untold = True

    def _tell(self) -> None:
        self._untold = False
        self._told("stopping after this step, with a checkpoint; once more stops at once")
