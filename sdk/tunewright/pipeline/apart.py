"""A form of a model in a process of its own, asked like any other: a `Subject` whose answers come through a pipe."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tunewright.errors import EnvironmentFault, TunewrightError, WorkFailed
from tunewright.parts import Options, SpecPath
from tunewright.parts.engine import Completion, Continuation, Limit, limits
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.ask import KNOWN, LIKELIEST
from tunewright.pipeline.forms import Opener
from tunewright.store import disk

SHOWN = 8  # lines of what a process said before it died
PATIENCE = 60  # seconds in which a process must free its model and end
Progress = Callable[[int], None]
_ERRORS = {error.__name__: error for error in KNOWN}


def form_of(
    opener: Opener, base: Path, saved: Path | None, speaks: Path | None, blocked: Sequence[str]
) -> dict[str, Any]:
    """Plain JSON from which anyone with the same plugins reopens the form; `speaks` as in `Served`."""
    parts = {part.part: plain(part.options) for part in opener.parts()}
    return {
        "base": str(base),
        "saved": None if saved is None else str(saved),
        "speaks": None if speaks is None else str(speaks),
        "dtype": opener.dtype,
        "parts": parts,
        "blocked": list(blocked),
    }


def plain(options: Options, *, written: bool = False) -> dict[str, Any]:
    """Options as plain JSON that means the same in any folder; `written` leaves the defaults out."""
    found = options.model_dump(mode="json", exclude_unset=written)
    return {**found, "kind": options.kind, **{name: path for name, path in paths(options).items() if name in found}}


def paths(options: Options) -> dict[str, str]:
    """The paths among options, by their field, whole: as written they are relative to the spec that wrote them."""
    fields = {name: getattr(options, name) for name in type(options).model_fields}
    return {name: str(value.path) for name, value in fields.items() if isinstance(value, SpecPath)}


@contextmanager
def apart(form: Mapping[str, Any], tokenizer: Tokenizer, scratch: Path) -> Iterator[Apart]:
    """The form, opened in a fresh process, which ends on leaving.

    Raises what is refused there, by the same error, and `WorkFailed` with its last words where the process dies.
    """
    form_file, log_file = scratch / "form.json", scratch / "form.log"
    disk.write(form_file, json.dumps(form).encode())
    with log_file.open("w+", encoding="utf-8", errors="replace") as log:
        process = started(form_file, log)
        try:
            yield Apart(process, log, tokenizer)
        finally:
            _end(process)


def started(form_file: Path, log: IO[str]) -> subprocess.Popen[str]:
    """The fresh process, which opens the form that a file tells of; what it says of itself goes to `log`."""
    command = [sys.executable, "-m", "tunewright.pipeline.ask", str(form_file)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8")


class Apart:
    """The subject of another process. A question that is refused there is refused here, by the same error.

    `peak_rss_bytes` is the most memory that the process has held. `tokens` were answered in `seconds` so far.
    """

    def __init__(self, process: subprocess.Popen[str], log: IO[str], tokenizer: Tokenizer) -> None:
        self._process, self._log = process, log
        self.tokenizer = tokenizer
        self.peak_rss_bytes, self.tokens, self.seconds = 0, 0, 0.0
        heard = self._heard()
        if "refused" in heard:
            raise _error(**heard["refused"])
        ready = heard["ready"]
        self.identity: str = ready["identity"]
        self.gives_likeliest = LIKELIEST in ready["offers"]

    def complete(
        self, prompts: Sequence[Text], limit: Limit, progress: Progress | None = None, *, together: bool = True
    ) -> list[Completion]:
        """As `Subject.complete`."""
        start, most = time.monotonic(), limits(limit, len(prompts))
        found = self._ask({"do": "complete", "prompts": prompts, "limit": most, "together": together}, progress)
        answers = [Completion(**answer) for answer in found]
        self.seconds += time.monotonic() - start
        self.tokens += sum(len(answer.ids) for answer in answers)
        return answers

    def score(
        self, rows: Sequence[Continuation], progress: Progress | None = None, *, together: bool = True
    ) -> list[list[float]]:
        """As `Subject.score`."""
        scores: list[list[float]] = self._ask({"do": "score", "rows": rows, "together": together}, progress)
        return scores

    def likeliest(self, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
        """As `Likeliest.likeliest`, where `gives_likeliest`."""
        found = self._ask({"do": LIKELIEST, "rows": rows, "top": top}, None)
        return [[dict(place) for place in row] for row in found]

    def _ask(self, question: Mapping[str, Any], progress: Progress | None) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        while True:
            heard = self._heard()
            if "progress" in heard:
                if progress is not None:
                    progress(heard["progress"])
                continue
            if "refused" in heard:
                raise _error(**heard["refused"])
            self.peak_rss_bytes = heard["peak_rss_bytes"]
            return heard["done"]

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _died(self) -> TunewrightError:
        """Killed by the system it tells nothing of the form: that is an `EnvironmentFault`."""
        ended = self._process.wait()
        self._log.seek(0)
        last = "\n".join(self._log.read().strip().splitlines()[-SHOWN:])
        says = "the exported form could not be asked in a fresh process:"
        if ended == -signal.SIGKILL:  # nobody of ours sends it
            last = f"it was killed, as a system does that is out of memory\n{last}".strip()
            return EnvironmentFault(f"{says}\n{last}", fix="free memory, and run again: it goes on from here")
        return WorkFailed(f"{says}\n{last}")


def _error(type: str, message: str, fix: str) -> TunewrightError:
    return _ERRORS[type](message, fix=fix)


def _end(process: subprocess.Popen[str]) -> None:
    """Once its questions end, it frees what it holds and ends by itself."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it is gone already
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()  # its answers are all there, and stay
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
        process.stdout.close()
