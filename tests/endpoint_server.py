"""A server on this machine that speaks OpenAI's protocol as vLLM does, over subjects of ours; it fails when it is told.

Models answer under the names that they are put under; every request is remembered. `faults` are used up one a
completion, and each is a function of the handler that sends, or does not send, an answer of its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tunewright.data.mask import prompt_ids
from tunewright.parts.engine import Continuation


@dataclass
class Asked:
    """One request: its path, its body (None of a GET) and its authorization header."""

    path: str
    body: Mapping[str, Any] | None
    token: str | None


@dataclass
class FakeServer:
    """What is served, who may ask, and every request so far."""

    subjects: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    faults: list[Callable[[Handler], None]] = field(default_factory=list)
    any_name: str = ""
    """The model that answers under names which are not served, as many servers do it."""
    answers_as: str = ""
    """What it says of itself in place of the name that was asked."""
    gives_ids: bool = True
    begins_twice: bool = False
    """Puts a token of its own before a text."""
    parents: dict[str, str] = field(default_factory=dict)
    """Of each adapter, the name of its base."""
    contexts: dict[str, int] = field(default_factory=dict)
    """Of a model, the tokens that it says it reads at the most."""
    tokenizes: bool = True
    """Answers `/tokenize` beside its API, as vLLM does."""
    most: int = 1 << 20
    """Tokens of its context."""
    asked: list[Asked] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    url: str = ""
    lock: Any = field(default_factory=threading.RLock)

    @property
    def completions(self) -> list[Asked]:
        """The requests that are no list of models."""
        return [ask for ask in self.asked if ask.body is not None]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else the second waits for the first to be confirmed
    server_of: FakeServer

    def do_GET(self) -> None:
        self._hear(None)
        if not self._refused():
            parents = self.server_of.parents
            contexts = self.server_of.contexts
            models = [
                {"id": name, "parent": parents.get(name), "max_model_len": contexts.get(name)}
                for name in self.server_of.subjects
            ]
            self.say(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        served = self.server_of
        self._hear(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        with served.lock:
            served.under_way += 1
            served.most_under_way = max(served.most_under_way, served.under_way)
            fault = served.faults.pop(0) if served.faults else None
        try:
            if fault is not None:
                fault(self)
            elif not self._refused():
                self.tokenize() if self.path == "/tokenize" else self.answer()
        finally:
            with served.lock:
                served.under_way -= 1

    def log_message(self, *_: Any) -> None:
        pass

    def _hear(self, body: Any) -> None:
        self.body = body
        self.server_of.asked.append(Asked(self.path, body, self.headers.get("Authorization")))

    def _refused(self) -> bool:
        token = self.headers.get("Authorization")
        if self.server_of.key and token != f"Bearer {self.server_of.key}":
            self.say(401, {"error": {"message": f"{token} is not welcome"}})
            return True
        return False

    def tokenize(self) -> None:
        """Say what the model that is asked makes of a prompt."""
        if not self.server_of.tokenizes:
            return self.say(404, {"detail": "Not Found"})
        prompt = self.body.get("prompt", self.body.get("messages"))
        return self.say(200, {"tokens": prompt_ids(prompt, self.server_of.subjects[self.body["model"]].tokenizer)})

    def answer(self) -> None:
        """Say what the model that is asked says."""
        served, body = self.server_of, self.body
        subject = served.subjects.get(body["model"]) or served.subjects.get(served.any_name)
        if subject is None:
            return self.say(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        with served.lock:
            choice, ids = self._choice(subject, body)
        if len(ids) + body["max_tokens"] > served.most:
            return self.say(400, {"error": {"message": f"the longest context is {served.most} tokens\nand no more"}})
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return self.say(200, {"model": served.answers_as or body["model"], "choices": [choice], "usage": usage})

    def _choice(self, subject: Any, body: Any) -> tuple[dict[str, Any], list[int]]:
        tokenizer, prompt = subject.tokenizer, body.get("prompt", body.get("messages"))
        begin = tokenizer.decode(tokenizer.begin, special=True)
        ids = prompt if "prompt" in body and not isinstance(prompt, str) else None
        if ids is not None:
            prompt = tokenizer.decode(ids, special=True)
        if isinstance(prompt, str):
            prompt = prompt.removeprefix(begin)
            if self.server_of.begins_twice and ids is None:
                prompt = f"?{prompt}"
        if "prompt_logprobs" in body:
            if len(ids) + 1 > self.server_of.most:
                return {}, ids
            (scores,) = subject.score([Continuation(ids[:1], ids[1:])])
            told = [None, *({str(t): {"logprob": s}} for t, s in zip(ids[1:], scores, strict=True))]
            return {"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": told}, ids
        (said,) = subject.complete([prompt], body["max_tokens"])
        text = {"message": {"content": said.text}} if "messages" in body else {"text": said.text}
        choice = {"index": 0, **text, "finish_reason": "stop" if said.stopped == "terminator" else "length"}
        if body.get("return_token_ids") and self.server_of.gives_ids:
            choice |= {"token_ids": said.ids, "prompt_token_ids": said.prompt_ids}
        return choice, said.prompt_ids

    def say(self, status: int, body: Any, headers: Mapping[str, str] | None = None, cut: int | None = None) -> None:
        """Send an answer; of its body only the first `cut` bytes, where it is given."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])
        self.close_connection = True


def status(code: int, body: Any = b"", **headers: str) -> Callable[[Handler], None]:
    """A fault: this status, with this body."""
    return lambda handler: handler.say(code, body, {name.replace("_", "-"): text for name, text in headers.items()})


def drop(handler: Handler) -> None:
    """A fault: the connection ends without an answer."""
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """A fault: half of an answer."""
    handler.say(200, {"choices": [{"text": "half"}]}, cut=12)


def hang(seconds: float) -> Callable[[Handler], None]:
    """A fault: nothing is said for so long."""
    return lambda handler: time.sleep(seconds)


class Listening(ThreadingHTTPServer):
    """Takes as many callers at once as a test sends: one that finds the queue full tries again after a second."""

    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving(**subjects: Any) -> Iterator[FakeServer]:
    """A server of these models, by their names, until the block ends."""
    made = FakeServer(dict(subjects))
    server = Listening(("127.0.0.1", 0), type("Of", (Handler,), {"server_of": made}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
