"""The event stream: one JSON object a line in events.jsonl, and the same objects to whoever listens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunewright.host import Host
from tunewright.pipeline.trackers import Trackers
from tunewright.secrets import redact
from tunewright.store import disk

Listener = Callable[[Mapping[str, Any]], None]


class Events:
    """Numbers, times and writes events. Progress is for eyes only and is not written."""

    def __init__(self, path: Path, host: Host, listener: Listener | None = None) -> None:
        self.path, self.host, self.listener = path, host, listener
        self.seq = 0
        self.trackers: Trackers | None = None

    def emit(self, step: str, event: Mapping[str, Any]) -> None:
        """Send one event of one step; order comes from `seq`, never from the clock."""
        self.seq += 1
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        whole = {**event, "seq": self.seq, "time": stamp, "step": step}
        if event["event"] != "progress":
            disk.append(self.path, redact(json.dumps(whole, ensure_ascii=False)).encode() + b"\n")
        if self.listener is not None:
            self.listener(whole)
        self._tell_plugins(whole)
        if self.trackers is not None:
            self.trackers.hear(whole)

    def _tell_plugins(self, event: Mapping[str, Any]) -> None:
        try:
            self.host.manager.hook.tunewright_run_event(event=event)
        except Exception as error:  # a listener cannot hurt a run; what it did wrong is in the log, by name
            note = {"seq": self.seq, "step": event["step"], "event": "listener-failed", "why": repr(error)}
            disk.append(self.path, redact(json.dumps(note)).encode() + b"\n")
