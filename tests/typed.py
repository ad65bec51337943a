"""`tunewright …` as typed, in a fork of this process: it ends as a process ends, and imports nothing that is here.

A start of its own takes longer than most commands do; what a fresh process imports is tested by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy  # noqa: F401  imported once, before the forks
import rich.table  # noqa: F401

import tunewright.cli.commands
import tunewright.report.page  # noqa: F401
from tunewright.cli.start import main


def typed(*words: str, said: str = "", program: Callable[[], object] = main) -> subprocess.CompletedProcess[str]:
    """What the command printed and its exit code, or minus the signal that ended it; `said` is its stdin.

    `program` is another command's entry, in place of `tunewright`'s.
    """
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(said.encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            _run(program, words, given, out, err)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["tunewright", *words], code, out.read().decode(), err.read().decode())


@contextmanager
def begun(*words: str) -> Iterator[tuple[int, IO[str]]]:
    """`tunewright …` while it runs: its process, which is the caller's to wait for, and its stderr line by line."""
    read, write = os.pipe()
    with Path(os.devnull).open("r+b") as nothing, os.fdopen(read, encoding="utf-8") as heard:
        child = os.fork()
        if child == 0:
            heard.close()
            _run(main, words, nothing, nothing, os.fdopen(write, "wb"))
        os.close(write)
        try:
            yield child, heard
        except BaseException:
            with suppress(ProcessLookupError):  # a test that failed, or took too long, leaves nothing behind
                os.kill(child, signal.SIGKILL)
            raise


def _run(program: Callable[[], object], words: tuple[str, ...], *streams: IO[bytes]) -> None:
    """Never returns: the rest of this process is the parent's."""
    code = 70
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the parent's OpenMP threads did not come along: a second one would be waited for
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            for number in range(3)
        )
        sys.argv = ["tunewright", *words]
        code = program() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
