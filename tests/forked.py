"""The process in which a form is opened, as a fork of this one: it imports no library again.

One that starts afresh imports torch, transformers and PEFT, which takes longer than a tiny model is asked for, and a
run starts one a form. What it does is what the real one does, which has tests of its own, by `fresh_process`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from tunewright.pipeline import apart, ask

FRESH = apart.started
"""The start that users have."""


class Forked:
    """As much of a `subprocess.Popen` as the pipeline uses."""

    def __init__(self, form_file: Path, log: IO[str]) -> None:
        given, asks = os.pipe()
        hears, said = os.pipe()
        self.stdin, self.stdout = (os.fdopen(end, how, encoding="utf-8") for end, how in ((asks, "w"), (hears, "r")))

        def opens() -> None:
            self.stdin.close()
            self.stdout.close()
            _become(form_file, given, said, log.fileno())

        self._process: Any = multiprocessing.get_context("fork").Process(target=opens, daemon=True)
        self._process.start()
        self.pid = self._process.pid
        os.close(given)
        os.close(said)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("a form in a fork", timeout or 0)
        return code

    def kill(self) -> None:
        self._process.kill()


def _become(form_file: Path, *streams: int) -> None:
    """The fork is `python -m tunewright.pipeline.ask`, by its streams, its signals and its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the parent's OpenMP threads did not come along: a second one would be waited for
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    code = 1
    try:
        ask.main(str(form_file))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
