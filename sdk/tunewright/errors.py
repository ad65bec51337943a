"""Every error that a user can cause, and the exit code it ends with.

An error says what happened, where, why, and what to do now. Anything else that escapes is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TunewrightError(Exception):
    """Base of all errors that Tunewright raises on purpose. `exit_code` is what the command line ends with."""

    exit_code = 1
    summary: Mapping[str, Any] | None = None
    """Of the run that it ended, if it ended one: what `run --json` prints."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  {self.fix}" if self.fix else self.message


class WorkFailed(TunewrightError):
    """The input was fine, the work was not: a gate, a parity check, a training that went wrong. Exit code 1."""


class BadInput(TunewrightError):
    """The user's spec, data or arguments cannot be used as they are. Exit code 2."""

    exit_code = 2


class EnvironmentFault(TunewrightError):
    """Something this machine lacks: an extra, memory, disk, a network. Exit code 3."""

    exit_code = 3


class MissingExtra(EnvironmentFault):
    """A backend's library is not installed; the message names the extra that brings it."""

    def __init__(self, backend: str, extra: str, cause: ImportError) -> None:
        super().__init__(
            f"`{backend}` needs `{cause.name or cause}`, which is not installed",
            fix=f'install it with: pip install "tunewright[{extra}]"',
        )


class RootLocked(EnvironmentFault):
    """Another process writes in the same project root. The message names its pid and host."""


class Refused(WorkFailed):
    """A package, an artifact or a row failed its proof and is not used."""


class Interrupted(BaseException):
    """The run was asked to stop, and did. `exit_code` is the shell's for the signal: 130 or 143.

    No `Exception`, so that no library's handler of errors swallows it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.exit_code = 128 + signum


class TunewrightWarning(UserWarning):
    """What a user should know and nothing fails for; the command line prints it as one line."""
