"""A server that is ours: started on this machine's loopback, watched while it is asked, stopped whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tunewright.errors import EnvironmentFault, TunewrightError, WorkFailed

HOST = "127.0.0.1"
SHOWN = 12  # lines of a server's log that a message shows
SILENCE = 3600.0  # seconds that each answer may take: on a slow machine long ones come whole, at their end
PROBE = 10.0  # seconds that one look at its health may take: a connection made amid its start may never be answered
STARTS = 3  # tries, each on another port: between our look at one and its listening another may take it
GRACE = 10.0  # seconds from being asked to end to being ended
BUSY = (429, 503)  # HTTP: ask later
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
TELL_OF_PARENT = 1  # PR_SET_PDEATHSIG, of Linux's <sys/prctl.h>


class Answered(WorkFailed):
    """The server answered with an error of its own: its HTTP status, and its words."""

    def __init__(self, who: str, path: str, status: int, words: str) -> None:
        super().__init__(f"{who} answers {path} with {status}: {words}")
        self.status, self.words = status, words


class Server:
    """A process that listens on a port of the loopback."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], port: int, log: Path, cause: Callable[[str], str]
    ) -> None:
        self.name, self.process, self.port, self.log, self.cause = name, process, port, log, cause

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def ask(self, path: str, body: Any = None, *, answers: int = 1) -> Any:
        """The JSON that it answers to a GET, or to a POST of `body`; an hour is waited for each of the `answers` that
        it holds.

        Raises `Answered` for an HTTP error, `WorkFailed` with the end of its log where it died, and `EnvironmentFault`
        where it is busy or slow: that passes, and tells nothing of the model that it serves.
        """
        said = self._said(path, None if body is None else json.dumps(body).encode(), answers * SILENCE)
        try:
            return json.loads(said)
        except ValueError as error:
            raise WorkFailed(f"{self.name} answers {path} with what is no JSON: {said[:200]!r}") from error

    def _said(self, path: str, text: bytes | None, seconds: float) -> bytes:
        # a connection of our own: urllib would go through the user's proxy
        connection = HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("GET" if text is None else "POST", path, text, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException) as error:
            raise self.failed(error) from error
        finally:
            connection.close()
        if answer.status >= 400:
            answered = Answered(self.name, path, answer.status, _words(said))
            if answer.status in BUSY:
                raise EnvironmentFault(answered.message, fix="run again: it goes on from here") from answered
            raise answered
        return said

    def wait(self, health: str, seconds: float) -> None:
        """Until a GET of `health` succeeds. Raises `WorkFailed` where it dies before, `EnvironmentFault` where it takes
        longer: a slower machine than was thought, or one that has more to do."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self.alive:
                raise self.failed(None)
            with contextlib.suppress(TunewrightError):  # of its death the next look tells
                self._said(health, None, PROBE)  # some say nothing but that they are
                return
            time.sleep(0.05)
        says = f"{self.name} was not ready after {seconds:.0f} s; its log ends:\n{self.tail()}"
        raise EnvironmentFault(says, fix="free the machine of other work, and run again")

    def stop(self) -> None:
        """Ask it to end, and end it where it does not."""
        if self.alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        if self.alive:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(ProcessLookupError):  # whatever it started and left: it leads a session of its own
            os.killpg(self.process.pid, signal.SIGKILL)

    def said(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text("utf-8", "replace") if self.log.is_file() else ""

    def tail(self) -> str:
        """Why it failed where its log says that, and the end of what it said."""
        said = self.said()
        cause, lines = self.cause(said), said.strip().splitlines()[-SHOWN:]
        return "\n".join(f"  {line}" for line in [cause, "…"] * bool(cause) + lines) or "  (it said nothing)"

    def failed(self, error: Exception | None) -> TunewrightError:
        """What is to be raised where it was not heard: how it ended, or that it does not answer.

        An `EnvironmentFault` where the system killed it or it takes too long: that tells nothing of the model that it
        served.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):  # a connection may break a moment before the end
            self.process.wait(0.5)
        if self.alive:
            says = f"{self.name} does not answer on port {self.port}: {error}; its log ends:\n{self.tail()}"
            if isinstance(error, TimeoutError):
                return EnvironmentFault(says, fix="free the machine of other work, and run again")
            return WorkFailed(says)
        code = self.process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        says = f"{self.name} ended {how}; its log ends:\n{self.tail()}"
        if code == -signal.SIGKILL:  # nobody of ours sends it
            return EnvironmentFault(says, fix="it may have been out of memory: free some, and run again")
        return WorkFailed(says)


@contextmanager
def running(
    name: str,
    command: Callable[[int], Sequence[str]],
    *,
    health: str,
    more: Mapping[str, str] | None = None,
    patience: float = 1800.0,
    cause: Callable[[str], str] = lambda said: "",
) -> Iterator[Server]:
    """A server started by `command(port)`, ready; it is stopped on leaving, and with this process however that ends.

    `health` is the path that it answers once it is ready, `patience` how many seconds it may take until then, and
    `more` the variables that it is given beside ours; `cause` finds in its log why it failed, or nothing. Raises
    `WorkFailed` where it ends by itself, but for a port that was taken meanwhile, in whose place another one is tried,
    and `EnvironmentFault` where it cannot be started or is not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="tunewright-engine-") as folder:
        log = Path(folder) / "log.txt"
        for chance in range(STARTS, 0, -1):
            port = free_port()
            server = Server(name, _start(name, command(port), log, more or {}), port, log, cause)
            try:
                try:
                    server.wait(health, patience)
                except WorkFailed:
                    if chance > 1 and _taken(port):
                        continue
                    raise
                yield server
                return
            finally:
                server.stop()


def variables() -> dict[str, str]:
    """Our own environment's variables for a Python of another one: without those that would lead it back to ours."""
    return {name: value for name, value in os.environ.items() if name not in OURS}


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as asked:
        asked.bind((HOST, 0))
        port: int = asked.getsockname()[1]
        return port


def _taken(port: int) -> bool:
    """Whether somebody listens on a port whose server has ended: one that came between our look and its own."""
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a connection left behind is nobody
        try:
            asked.bind((HOST, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _start(name: str, words: Sequence[str], log: Path, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        with log.open("wb") as said:
            return subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**variables(), **more},
                start_new_session=True,  # Ctrl-C at the terminal is ours: the server ends when we leave
                preexec_fn=_with_parent(),
            )
    except OSError as error:
        raise EnvironmentFault(f"{name} cannot be started: {error}", fix="name a program that runs here") from error


def _with_parent() -> Callable[[], object] | None:
    """What a child calls first, so that it ends with us even if we are killed; None where no system call does it.

    With us means with the thread that starts it: that one has to stay for as long as the server is used.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(TELL_OF_PARENT, signal.SIGTERM)


def _words(said: bytes) -> str:
    """The message in an error's JSON, as OpenAI's servers and llama.cpp's give it; else its beginning as it is."""
    try:
        error = json.loads(said)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return said[:300].decode("utf-8", "replace").strip()
