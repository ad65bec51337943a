"""Stand-ins for the modules `trackio` and `wandb`: they keep what they are told. And a tracking server of MLflow's."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace


class Run:
    """A run of either library, as far as the callbacks and ours go."""

    def __init__(self, name, settings):
        self.name, self.settings = name, settings
        self.config, self.summary, self.logged, self.finished = {}, {}, [], 0
        self.fails = lambda: None

    def log(self, values, step=None):
        self.fails()
        self.logged.append((step, dict(values)))

    def finish(self):
        self.finished += 1

    def define_metric(self, *names, **how):
        pass

    def _label(self, code):
        pass


class Config(dict):
    def update(self, values, allow_val_change=True):
        super().update(values)


def _install(monkeypatch, name, **members):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__path__ = []
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def trackio(monkeypatch):
    """(the list of runs, the list of what was in the environment at each)."""
    import os

    runs, seen = [], []

    def init(**given):
        seen.append(dict(os.environ))
        runs.append(Run(given.pop("name"), given))
        return runs[-1]

    _install(monkeypatch, "trackio", init=init, __version__="0.43.0")
    return runs, seen


def wandb(monkeypatch):
    """The list of runs."""
    runs = []

    def init(name, settings, reinit):
        assert reinit == "create_new"
        runs.append(Run(name, vars(settings)))
        runs[-1].config = Config()
        return runs[-1]

    _install(monkeypatch, "wandb", init=init, Settings=SimpleNamespace, run=None, __version__="0.31.0")
    for within in ("wandb.sdk", "wandb.sdk.lib"):
        _install(monkeypatch, within)
    _install(monkeypatch, "wandb.sdk.lib.config_util", ConfigError=type("ConfigError", (Exception,), {}))
    return runs


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"experiment": {"experiment_id": "7", "name": "acme", "lifecycle_stage": "active"}})

    def do_POST(self):
        self.answer({"run": {"info": {"run_id": "r1", "experiment_id": "7", "status": "RUNNING"}, "data": {}}})

    def answer(self, body):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = json.loads(raw) if raw else {}
        self.server.heard.append((self.path.partition("?")[0].rpartition("mlflow/")[2], sent, dict(self.headers)))
        out = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *_):
        pass


@contextmanager
def mlflow_server():
    """(URL, what it heard as (call, body, headers))."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
