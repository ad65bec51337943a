"""HTTP with a server: bounded waiting, bounded tries, bounded answers, and errors in a user's words without the key."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from time import sleep
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tunewright.errors import BadInput, EnvironmentFault, TunewrightError, WorkFailed
from tunewright.parts import Secret
from tunewright.secrets import redact
from tunewright.spec.suggest import did_you_mean
from tunewright_endpoint.remedies import ENDPOINT, Remedies

TRIES = 5
PAUSE = 0.5  # seconds after the first try; each later one waits twice as long
LONGEST_PAUSE = 30.0  # seconds that a server may ask us to wait
MOST_BYTES = 64 << 20  # of one answer; a prompt of 100,000 tokens with log-probabilities has about 20 MB
SHOWN = 200  # characters of what a server said
BUSY = (429, 503)
REFUSED = (400, 413, 422)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server, and make a GET of a POST."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """One server. `url` is where its API begins; a request may take `timeout` seconds.

    `remedies` are those of the engine that asks. What passes by itself, as a server that is busy, slow or gone, is an
    `EnvironmentFault`: it tells nothing of the model that is served.
    """

    def __init__(self, url: str, key: Secret | None, timeout: float, remedies: Remedies = ENDPOINT) -> None:
        self.url, self.key, self.timeout, self.remedies = url, key, timeout, remedies
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if urlsplit(url).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy knows another machine by that name
        self._opener = urllib.request.build_opener(*handlers)
        self._headers = {"Content-Type": "application/json", **self._authorization()}

    def refuse_unlisted(self, model: str) -> None:
        """Ask the server what it serves. Raises `BadInput` where `model` is not among it.

        Many servers answer any name with the model that they have: what they list is what they have.
        """
        names = [line_of(one["id"]) for one in self.models()]
        if model not in names:
            message = f"{self.url} serves no model `{model}`"
            raise BadInput(message, fix=did_you_mean(model, names) or "it lists none: load one")

    def models(self) -> list[dict[str, Any]]:
        """What the server lists, each with its `id`."""
        listed = self._ask("/models", None, first=True).get("data")
        if not isinstance(listed, list):
            self._strange("/models", "it lists no models in `data`")
        return [one for one in listed if isinstance(one, dict) and "id" in one]

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's JSON object.

        Raises `BadInput` where it refuses what is asked, `EnvironmentFault` where it is busy, slow or gone, else
        `WorkFailed`.
        """
        return self._ask(path, json.dumps(body).encode())

    def _authorization(self) -> dict[str, str]:
        if self.key is None:
            return {}
        value = self.key.reveal()
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise EnvironmentFault(
                f"the value of `{self.key.written}` is no key: it holds a space, a line break or the like",
                fix="set the variable anew, without quotes and without a line break at its end",
            )
        return {"Authorization": f"Bearer {value}"}

    def _ask(self, path: str, body: bytes | None, *, first: bool = False) -> dict[str, Any]:
        """`first`: nothing was heard of the server yet, so that nobody listens there is no passing trouble."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._read(path, body)
            except urllib.error.HTTPError as error:
                with error:  # `from None`, here and below: the library's error holds what the server said, as it is
                    why, pause = self._answered(path, error), _asked_to_wait(error)
            except TimeoutError:
                raise self._slow(path) from None
            except (OSError, http.client.HTTPException) as error:
                if isinstance(getattr(error, "reason", None), TimeoutError):
                    raise self._slow(path) from None
                why, pause = self._lost(error), 0.0
                if first and isinstance(error, urllib.error.URLError):  # there was none to be lost
                    raise EnvironmentFault(why, fix=self.remedies.unreached) from None
            if tries == TRIES:
                raise EnvironmentFault(f"{why}, {TRIES} times in a row", fix=self.remedies.busy)
            sleep(min(max(PAUSE * 2 ** (tries - 1), pause), LONGEST_PAUSE))

    def _read(self, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}{path}", body, self._headers)
        with self._opener.open(request, timeout=self.timeout) as response:
            data = response.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                self._strange(path, f"its answer has more than {MOST_BYTES >> 20} MiB")
            if response.length:  # what `read` of a bounded size does not tell
                raise http.client.IncompleteRead(data, response.length)
        found = _json(data)
        if not isinstance(found, dict):
            self._strange(path, f"its answer is no JSON object: {line_of(data)!r}")
        return found

    def _answered(self, path: str, error: urllib.error.HTTPError) -> str:
        """Of a passing refusal, the sentence; any other one is raised."""
        status, said = error.code, _said(error)
        says = f"{self.url}{path} answers {status}{f': {said}' if said else ''}"
        if status in BUSY:
            return says
        raise self._refusal(status, says) from None

    def _refusal(self, status: int, says: str) -> TunewrightError:
        if status in (401, 403):
            if self.key is None:
                return BadInput(says, fix='it wants a key: write `api_key: "${env:NAME}"`, and set that variable')
            return BadInput(says, fix=f"it does not take the key of `{self.key.written}`: set another")
        if status == 404:
            return BadInput(says, fix=self.remedies.misplaced)
        if 300 <= status < 400:
            return BadInput(says, fix="a redirect is not followed: it would take the key along; write where it leads")
        if status in REFUSED:
            return BadInput(says, fix=self.remedies.refused)
        return WorkFailed(says, fix="its own log says why")

    def _lost(self, error: Exception) -> str:
        why = line_of(getattr(error, "reason", error)) or type(error).__name__
        return f"the connection to {self.url} was not made or not held ({why})"

    def _slow(self, path: str) -> EnvironmentFault:
        return EnvironmentFault(f"{self.url}{path} gave no answer in {self.timeout:g} s", fix=self.remedies.slow)

    def _strange(self, path: str, why: str) -> NoReturn:
        message = f"{self.url}{path} does not answer as an OpenAI-compatible server does: {why}"
        raise WorkFailed(message, fix=self.remedies.strange)


def _asked_to_wait(error: urllib.error.HTTPError) -> float:
    """Seconds, where the server says how many."""
    after = error.headers.get("Retry-After", "") if error.headers else ""
    return float(after) if after.isascii() and after.isdigit() else 0.0


def _said(error: urllib.error.HTTPError) -> str:
    """The message of an error's body, or its first line."""
    try:
        data = error.read(MOST_BYTES)
    except (OSError, http.client.HTTPException):
        return ""
    found = _json(data)
    inner = found.get("error", found) if isinstance(found, dict) else found
    text = inner.get("message", inner) if isinstance(inner, dict) else inner
    return line_of(data if text is None else text)


def _json(data: bytes) -> Any:
    """What a body holds; None where it is no JSON. The library's error holds the body, and goes no further."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def line_of(said: object) -> str:
    """What others said: the first line, not long, and no key in it, which a server may repeat."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    first = next((line for line in redact(text).splitlines() if line.strip()), "")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in first).split())[:SHOWN]
