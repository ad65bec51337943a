"""`hub`: a base in a repository of a model hub, pinned to a commit and to the digests of its files."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import EnvironmentFault, Refused, TunewrightWarning
from tunewright.parts import ModelSource, Options, Secret
from tunewright.parts.base import BadOption
from tunewright.parts.model_source import Pin
from tunewright_transformers.hub_api import COMMIT, Hub, Listing
from tunewright_transformers.hub_errors import Unreachable
from tunewright_transformers.hub_record import Asked, Record, read_record, write_record
from tunewright_transformers.layout import INDEX, is_weights
from tunewright_transformers.whole import check_shards, check_weights, read_config

URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
"""Without a user's name in it: a password in a spec would be a secret in a file."""
NAME = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"


class HubOptions(Options):
    """Options of a base on a hub."""

    kind: str = "hub"
    repo: Annotated[str, Field(pattern=rf"^({NAME}/)?{NAME}$", max_length=96, description="Repository: `org/name`.")]
    revision: Annotated[
        str, Field(pattern=r"^[^\s]+$", description="Branch, tag or commit (40 hex digits); pinned to a commit.")
    ] = "main"
    token: Annotated[
        Secret | None,
        Field(description='For a private or gated repository: `"${env:HF_TOKEN}"`. No token is taken from elsewhere.'),
    ] = None
    endpoint: Annotated[
        str | None, Field(pattern=URL, description="URL of another hub or a mirror; by default HF_ENDPOINT or the hub.")
    ] = None
    license: Annotated[
        str | None, Field(description="SPDX id of the model's licence; by default the one that its page names.")
    ] = None


class HubSource(ModelSource[HubOptions]):
    """Takes the files of a model, and nothing else, from one commit; each is proven by the digest that the hub lists.

    Where the hub cannot be reached, the last pin on this machine serves, with a warning.
    """

    kind = "hub"
    Options: ClassVar = HubOptions
    extra = "train"
    reads = frozenset({"repo", "revision", "token", "endpoint", "license"})
    vary: ClassVar = {
        "repo": ("acme/one", "acme/other"),
        "revision": ("main", "v1"),
        "token": (None, "${env:TUNEWRIGHT_NEVER_SET}"),
        "endpoint": ("http://127.0.0.1:9", "http://127.0.0.1:99"),
    }

    def pin(self) -> Pin:
        """The commit that the revision points to, and a digest of its files' digests. Warns where the last pin serves.

        Raises `BadInput` where the repository is closed, not there or no model, `EnvironmentFault` where the hub
        cannot be reached and nothing was pinned yet.
        """
        known = read_record(self._asked)
        if known is not None and COMMIT.fullmatch(self.options.revision):
            return self._pin(known)  # a commit never holds other files
        try:
            return self._pin(self._ask(known))
        except Unreachable as error:
            return self._pin(self._last(known, error))

    def config(self) -> Mapping[str, Any] | None:
        """The config.json of the last pin; None before the first, as no network is asked here."""
        known = read_record(self._asked)
        return known.config if known else None

    def fetch(self, pin: Pin, out: Path) -> None:
        """Downloads the pinned commit. Raises `Refused` on any difference, `EnvironmentFault` without a network."""
        repo, commit = pin.values["repo"], pin.values["commit"]
        hub = Hub(self._asked.endpoint, self.options.token, repo)
        listing = hub.listing(commit)
        if (listing.commit, listing.digest()) != (commit, pin.values["files"]):
            fix = "a commit cannot change: find out who serves it before you trust it"
            raise Refused(f"`{repo}` at {commit} lists other files than when it was pinned", fix=fix)
        for name in sorted(listing.files, key=lambda name: (is_weights(name), name)):
            if is_weights(name):  # the index is here by now: what lacks is said before gigabytes come
                check_shards(repo, listing.files, out / INDEX, "repo")
            hub.download(commit, name, listing.files[name], out / name)

    @property
    def name(self) -> str:
        """The repository."""
        return self.options.repo

    @property
    def license(self) -> str:
        """What the spec says, else what the model's page said when it was last pinned."""
        if self.options.license is not None:
            return self.options.license
        known = read_record(self._asked)
        return known.license if known else ""

    @property
    def _asked(self) -> Asked:
        endpoint = self.options.endpoint or os.environ.get("HF_ENDPOINT", "")
        if endpoint and not re.match(URL, endpoint):
            raise EnvironmentFault("HF_ENDPOINT is not the URL of a hub", fix="set it as in https://hub.example")
        return Asked(endpoint.rstrip("/"), self.options.repo, self.options.revision)

    @property
    def _hub(self) -> Hub:
        return Hub(self._asked.endpoint, self.options.token, self.options.repo)

    def _ask(self, known: Record | None) -> Record:
        """What the hub answers now, kept as the last pin."""
        listing = self._hub.listing(self.options.revision)
        if COMMIT.fullmatch(self.options.revision) and listing.commit != self.options.revision:
            raise Refused(f"`{self.options.repo}`: asked for {self.options.revision}, the hub gave {listing.commit}")
        if "config.json" not in listing.files:
            raise BadOption("not-a-model", f"`{self.options.repo}` has no config.json", "repo")
        check_weights(self.options.repo, listing.names, "repo")
        same = known is not None and (known.commit, known.files) == (listing.commit, listing.digest())
        config = known.config if known and same else self._config(listing)
        found = Record(listing.commit, listing.digest(), listing.license, config)
        if found != known:
            write_record(self._asked, found)
        return found

    def _config(self, listing: Listing) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="tunewright-") as scratch:
            path = Path(scratch) / "config.json"
            self._hub.download(listing.commit, path.name, listing.files[path.name], path)
            return read_config(self.options.repo, path.read_bytes(), "repo")

    def _last(self, known: Record | None, error: EnvironmentFault) -> Record:
        repo, revision = self.options.repo, self.options.revision
        if known is None:
            fix = f"{error.fix}; once pinned, it is planned without a network. Or use a copy of it with `kind: local`"
            message = f"{error.message}; `{repo}` at `{revision}` was never pinned here"
            raise EnvironmentFault(message, fix=fix) from None
        message = f"{error.message}; `{repo}` is taken at commit {known.commit}, as `{revision}` was last pinned here"
        warnings.warn(message, TunewrightWarning, stacklevel=3)  # the line that asked for the pin
        return known

    def _pin(self, record: Record) -> Pin:
        return Pin({"repo": self.options.repo, "commit": record.commit, "files": record.files})
