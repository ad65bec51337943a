"""A model hub on this machine: the part of the API that huggingface_hub asks for, with weights on a second host.

It answers as the real one does: a private repository and one that is not there look alike, a gated one shows its
listing and no file, large files are a redirect to storage that knows no token.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LARGE = (".safetensors", ".bin")


@dataclass
class Repo:
    """Commits of one repository: `files` are those of the last, `spoilt` are sent in place of what is listed."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    main: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    spoilt: dict[str, bytes | None] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """Put a commit on `main`; returns its 40 hex digits."""
        known = json.dumps([self.main, {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}])
        self.main = hashlib.sha1(known.encode()).hexdigest()
        self.commits[self.main] = dict(files)
        return self.main


@dataclass
class Asked:
    """One request: `host` is `hub` or `storage`, `token` the authorization header or None."""

    host: str
    method: str
    path: str
    token: str | None


@dataclass
class FakeHub:
    """The repositories, who may read them, and every request so far. `down` is a status with which all is answered."""

    repos: dict[str, Repo] = field(default_factory=dict)
    accounts: dict[str, set[str]] = field(default_factory=dict)
    """Token → the private and gated repositories that it opens."""
    asked: list[Asked] = field(default_factory=list)
    down: int = 0
    cut: int = 0
    """Bytes after which the next large file breaks off, once."""
    url: str = ""
    storage: str = ""

    def repo(self, name: str, folder: Path, **options: Any) -> Repo:
        """A repository with one commit: every file of the folder."""
        self.repos[name] = Repo(**options)
        self.repos[name].commit(
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        )
        return self.repos[name]

    def files_asked(self) -> set[str]:
        """Names of the files that were downloaded."""
        return {ask.path.rpartition("/")[2] for ask in self.asked if "/resolve/" in ask.path}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    host: str

    def do_GET(self) -> None:
        path, token = unquote(urlsplit(self.path).path), self.headers.get("Authorization")
        self.hub.asked.append(Asked(self.host, self.command, path, token))
        if self.hub.down:
            self._say(self.hub.down, {"error": "busy"})
        elif self.host == "storage":
            self._send(*self._stored(path))
        elif path.startswith("/api/models/"):
            self._info(*path.removeprefix("/api/models/").split("/revision/"), token)
        else:
            name, _, rest = path.strip("/").partition("/resolve/")
            self._file(name, *rest.split("/", 1), token)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass

    def _open(self, name: str, revision: str, token: str | None, *, files: bool) -> tuple[Repo, str] | None:
        """The repository and the commit, or None where the refusal was sent."""
        repo, known = self.hub.repos.get(name), self.hub.accounts.get((token or "").removeprefix("Bearer "))
        if token and known is None:
            return self._say(401, {"error": f"Invalid credentials in Authorization header: {token}"})
        if repo is None or (repo.private and name not in (known or ())):
            return self._say(404 if token else 401, {"error": "Repository not found"}, "RepoNotFound")
        if repo.gated and files and name not in (known or ()):
            return self._say(403 if token else 401, {"error": "Access is restricted"}, "GatedRepo")
        commit = repo.main if revision == "main" else revision
        if commit not in repo.commits:
            return self._say(404, {"error": f"Invalid rev id: {revision}"}, "RevisionNotFound")
        return repo, commit

    def _info(self, name: str, revision: str, token: str | None) -> None:
        found = self._open(name, revision, token, files=False)
        if found:
            repo, commit = found
            listed = [_sibling(file, data) for file, data in repo.commits[commit].items()]
            self._say(200, {"id": name, "sha": commit, "cardData": repo.card, "siblings": listed})

    def _file(self, name: str, revision: str, file: str, token: str | None) -> None:
        found = self._open(name, revision, token, files=True)
        if not found:
            return
        repo, commit = found
        data = repo.spoilt.get(file, repo.commits[commit].get(file))
        if data is None:
            self._say(404, {"error": "Entry not found"}, "EntryNotFound")
        elif file.endswith(LARGE):
            self._send(302, b"", {"Location": f"{self.hub.storage}/{name}/{commit}/{file}", "X-Repo-Commit": commit})
        else:
            self._send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{_git(data)}"'})

    def _stored(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        name, commit, file = path.strip("/").rsplit("/", 2)
        repo = self.hub.repos[name]
        data = repo.spoilt.get(file) or repo.commits[commit][file]
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            return 206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return 200, data, {}

    def _say(self, status: int, body: dict[str, Any], code: str = "") -> None:
        headers = {"Content-Type": "application/json", **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps(body).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.host == "storage" and self.hub.cut:
            data, self.hub.cut, self.close_connection = data[: self.hub.cut], 0, True
        if self.command != "HEAD":
            self.wfile.write(data)


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git(data)}
    if name.endswith(LARGE):
        found["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
    return found


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


@contextmanager
def _serving(hub: FakeHub, host: str) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": hub, "host": host})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub and its storage, each on a port of its own, until the block ends."""
    hub = FakeHub()
    with ExitStack() as stack:
        hub.storage = stack.enter_context(_serving(hub, "storage"))
        hub.url = stack.enter_context(_serving(hub, "hub"))
        yield hub


@pytest.fixture
def hub(monkeypatch, cache):
    """A hub with no repository yet, an empty cache, and nothing of this machine's settings for hubs or proxies."""
    from huggingface_hub import close_session

    import tunewright_transformers

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(tunewright_transformers, "OFFLINE_BY_USER", "")
    close_session()  # it was made with the settings of before
    with serving() as found:
        yield found
    close_session()
