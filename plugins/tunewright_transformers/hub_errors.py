"""What a hub's refusal means to a user: whose it is, and what to write. No message holds a token."""

from __future__ import annotations

from typing import Any

from tunewright.errors import BadInput, EnvironmentFault, Refused, TunewrightError
from tunewright.parts import Secret
from tunewright.secrets import redact

GIVE_TOKEN = 'write `token: "${env:HF_TOKEN}"` beside `repo`, and set that variable'


class Unreachable(EnvironmentFault):
    """The hub gave no answer, or is not to be asked; the last pin may serve."""


def unreachable(address: str, error: Exception) -> Unreachable:
    """A connection that was not made or not held."""
    fix = "check the network, the proxy and `endpoint`, then run again"
    return Unreachable(f"{address} cannot be reached ({_line(str(error)) or type(error).__name__})", fix=fix)


def broken(address: str, repo: str, error: Exception) -> EnvironmentFault:
    """An answer that is none of a hub, or half of one."""
    return EnvironmentFault(
        f"{address}, asked for `{repo}`, does not answer as a hub does: {_line(str(error)) or type(error).__name__}",
        fix="check `repo` and `endpoint`, and whether a proxy or a login page stands between; then run again",
    )


def explain(error: Any, address: str, repo: str, what: str, token: Secret | None) -> TunewrightError:
    """An `HfHubHTTPError` in a user's words; `what` was asked for: a revision, or a file at a commit."""
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

    status, said = error.response.status_code, _line(error.server_message or "")
    if isinstance(error, GatedRepoError):
        return _gated(address, repo, token)
    if isinstance(error, RevisionNotFoundError):
        fix = "`revision` is a branch, a tag or a commit of 40 hex digits"
        return BadInput(f"`{repo}` on {address} has no revision `{what}`", fix=fix)
    if isinstance(error, RemoteEntryNotFoundError):
        fix = "run again; if it stays so, the repository is not whole"
        return Refused(f"{address} lists {what} in `{repo}`, but does not have it", fix=fix)
    if status in (401, 403, 404):
        return _denied(address, repo, token, status, f" (it says: {said})" if said else "")
    if status in (408, 429) or status >= 500:
        return Unreachable(f"{address} answers {status} for now", fix="run again later")
    return EnvironmentFault(f"{address} answers {status} when asked for `{repo}`: {said or 'it says no more'}")


def _gated(address: str, repo: str, token: Secret | None) -> BadInput:
    accept = f"accept its terms on {address}/{repo}"
    if token is None:
        return BadInput(f"`{repo}` is gated: it opens to a token alone", fix=f"{accept}, then {GIVE_TOKEN}")
    message = f"`{repo}` is gated, and the account of `{token.written}` has no access to it"
    return BadInput(message, fix=f"{accept} with that account, or use another token")


def _denied(address: str, repo: str, token: Secret | None, status: int, says: str) -> BadInput:
    if token is None:
        message = f"{address} shows no `{repo}` without a token: it is not there, or it is private or gated{says}"
        return BadInput(message, fix=f"check the name; if it is private or gated, {GIVE_TOKEN}")
    refused = "does not take" if status == 401 else f"shows no `{repo}` to"
    message = f"{address} {refused} the token of `{token.written}`, asked for `{repo}`{says}"
    return BadInput(message, fix="check the name, that the token is valid, and what its account may read")


def _line(said: str) -> str:
    """What others said: one line, not long, and no token in it, which a server may repeat."""
    return " ".join(redact(said).split())[:200]
