"""The calls that the source `hub` makes: what a commit holds, and its files, each proven by the hub's own digest.

huggingface_hub does the asking; it is imported when something is asked, never at `validate`. The token goes to the
endpoint as a bearer header; a redirect to another host goes without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import tunewright_transformers
from tunewright.digest import digest_file, digest_json
from tunewright.errors import EnvironmentFault, MissingExtra, Refused
from tunewright.parts import Secret
from tunewright.parts.base import library_version
from tunewright_transformers.hub_errors import Unreachable, broken, explain, unreachable
from tunewright_transformers.layout import belongs

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 30  # seconds without an answer; the library's own default is to wait for ever
TRUE = ("1", "ON", "YES", "TRUE")  # what huggingface_hub reads as true
SPDX = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0")
"""Licences whose ids the hub writes in small letters. Others (`llama3.1`, `gemma`) keep the hub's own id."""


class Listed(NamedTuple):
    """One file of a commit: bytes, and `sha256:…` where it is stored apart from git, `git:…` (its blob) where not."""

    size: int
    digest: str


class Listing(NamedTuple):
    """What a commit holds: all names, and of the model's own files size and digest."""

    commit: str
    license: str
    names: tuple[str, ...]
    files: dict[str, Listed]

    def digest(self) -> str:
        """64 hex digits over names, sizes and digests of the model's files."""
        return digest_json({name: list(listed) for name, listed in self.files.items()})


@dataclass(frozen=True)
class Hub:
    """One repository of one hub. Every call raises what `hub_errors` says of a refusal, or `Unreachable`."""

    endpoint: str
    token: Secret | None
    repo: str

    def listing(self, revision: str) -> Listing:
        """What the revision holds now. Raises `Refused` where the hub does not say enough to prove a download."""
        with self._asking(revision) as token:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HTTPError

            api = HfApi(endpoint=self.endpoint or None, token=token, **_caller())
            try:
                info = api.model_info(self.repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
            except HTTPError:
                raise
            except Exception as error:  # whatever reading a URL or a stranger's answer raises
                raise broken(self.address, self.repo, error) from None
        return self._listing(info)

    def _listing(self, info: Any) -> Listing:
        names = [file.rfilename for file in info.siblings or ()]
        files = {file.rfilename: _listed(file) for file in info.siblings or () if belongs(file.rfilename)}
        blank = [name for name, listed in files.items() if not listed.digest]
        if blank or not COMMIT.fullmatch(info.sha or ""):
            lacking = f"digest of `{blank[0]}`" if blank else "commit"
            raise Refused(
                f"{self.address} names no {lacking} in `{self.repo}`: a download could not be proven",
                fix="use a hub that lists its files with their digests, or a copy of the model with `kind: local`",
            )
        return Listing(info.sha, _license(info.card_data), tuple(sorted(names)), dict(sorted(files.items())))

    def download(self, commit: str, name: str, listed: Listed, target: Path) -> None:
        """One file into `target`. Raises `Refused` where other bytes came than the hub listed."""
        from tunewright.store import disk

        try:
            with target.open("wb") as sink:
                self._get(commit, name, sink)
        except OSError as error:
            if error.errno is None:  # of the library, not of the system: fewer bytes than were announced
                raise broken(self.address, self.repo, error) from None
            raise disk.fault(target, listed.size, error) from error
        found = Listed(target.stat().st_size, _digest(target, listed.digest.partition(":")[0]))
        if found != listed:
            raise Refused(
                f"`{name}` of `{self.repo}` at {commit} came with {found.size:,} bytes and {found.digest}, "
                f"{self.address} lists {listed.size:,} bytes and {listed.digest}",
                fix="run again; if it comes so again, find out why before you trust it",
            )

    def _get(self, commit: str, name: str, sink: BinaryIO) -> None:
        with self._asking(commit, name) as token:
            from huggingface_hub import hf_hub_url
            from huggingface_hub.file_download import http_get  # resumes where a connection breaks
            from huggingface_hub.utils import build_hf_headers

            headers = build_hf_headers(token=token, **_caller())
            headers["Accept-Encoding"] = "identity"  # sizes and resumed places are those of the file
            url = hf_hub_url(self.repo, name, revision=commit, endpoint=self.endpoint or None)
            http_get(url, sink, headers=headers)

    @contextmanager
    def _asking(self, revision: str, name: str = "") -> Iterator[str | bool]:
        """The token to send, or False: none, also not one that the library finds. Its errors come out in our words."""
        if tunewright_transformers.OFFLINE_BY_USER.upper() in TRUE:
            raise Unreachable("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set", fix="unset it to ask the hub")
        token = self._token()
        try:
            from huggingface_hub.errors import HfHubHTTPError, HTTPError  # whichever http library it stands on
        except ImportError as error:
            raise MissingExtra("model_source/hub", "train", error) from error
        # `from None`: the library's errors carry the request, and what a server says can repeat the token
        try:
            with _online():
                yield token
        except HfHubHTTPError as error:
            said = f"{name} at {revision}" if name else revision
            raise explain(error, self.address, self.repo, said, self.token) from None
        except HTTPError as error:
            raise unreachable(self.address, error) from None

    def _token(self) -> str | bool:
        """Raises `EnvironmentFault` where the variable is not set or its value can be no header."""
        if self.token is None:
            return False
        value = self.token.reveal()
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise EnvironmentFault(
                f"the value of `{self.token.written}` is no token: it holds a space, a line break or the like",
                fix="set the variable anew, without quotes and without a line break at its end",
            )
        return value

    @property
    def address(self) -> str:
        """The endpoint, also where it is the library's own."""
        from huggingface_hub import constants

        return self.endpoint or str(constants.ENDPOINT)


@contextmanager
def _online() -> Iterator[None]:
    """Opens the network to huggingface_hub for one call of ours.

    library.py shuts it, so that no library asks for what the spec does not name. The library's one switch is this
    constant, read at each request of the session that all its clients share: there is none for a single client, and a
    factory for sessions would be as global. Telemetry stays shut: it makes even the user agent ask the hub.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY = False, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY = before


def _caller() -> dict[str, Any]:
    return {"library_name": "tunewright", "library_version": library_version("tunewright")}


def _listed(file: Any) -> Listed:
    if file.lfs is not None:
        return Listed(file.lfs.size, f"sha256:{file.lfs.sha256}")
    return Listed(file.size, f"git:{file.blob_id}") if file.blob_id else Listed(0, "")


def _digest(path: Path, form: str) -> str:
    from huggingface_hub.utils.sha import git_hash

    return f"sha256:{digest_file(path)}" if form == "sha256" else f"git:{git_hash(path.read_bytes())}"


def _license(card: Any) -> str:
    """The SPDX id of the licence that the model's page names; empty where it names none that one can look up."""
    named = getattr(card, "license", None)
    if not isinstance(named, str) or named.lower() in ("other", "unknown"):
        return ""
    return next((spdx for spdx in SPDX if spdx.lower() == named.lower()), named)
