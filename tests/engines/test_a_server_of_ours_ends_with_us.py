"""A server is ready when it is handed out, its death is told with its words, and it never outlives its use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from tunewright.engines import Answered, running
from tunewright.engines.process import free_port
from tunewright.errors import EnvironmentFault, WorkFailed

SERVER = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            print("out of parrots", flush=True)
            os._exit(3)
        self.say(200, {"pid": os.getpid(), "path": os.environ.get("PYTHONPATH"), "more": os.environ.get("MORE")})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "silent" in body: time.sleep(1)
        if "busy" in body: return self.say(503, {"error": {"message": "loading"}})
        self.say(*((400, {"error": {"message": "no such bird"}}) if "bad" in body else (200, {"got": body})))
    def say(self, status, what):
        text = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words): pass

if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "late" in sys.argv: time.sleep(0.5)
if "mute" in sys.argv: time.sleep(60)
if "dead" in sys.argv: sys.exit("no model of that name")
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def started(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)

    def start(*how, **options):
        words = lambda port: [sys.executable, str(tmp_path / "server.py"), str(port), *how]  # noqa: E731
        return running("parrot", words, health="/health", **options)

    return start


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_is_asked_once_it_is_ready_and_stopped_after(started):
    with started("late") as server:
        assert server.ask("/bird", {"colour": "grün"}) == {"got": {"colour": "grün"}}
        pid = server.ask("/")["pid"]
    assert gone(pid)


def test_it_is_stopped_where_its_user_fails_and_where_it_will_not_hear(started):
    with pytest.raises(ZeroDivisionError), started() as server:
        1 / 0  # noqa: B018
    assert not server.alive
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewright.engines.process.GRACE", 0.2)
        with started("deaf") as server:
            pass
    assert server.process.returncode == -signal.SIGKILL


def test_its_death_is_told_with_the_end_of_its_log(started):
    with pytest.raises(WorkFailed, match=r"(?s)parrot ended with exit code 1.*no model of that name"), started("dead"):
        pass
    with pytest.raises(WorkFailed, match=r"(?s)parrot ended with exit code 3.*out of parrots"), started() as server:
        server.ask("/die")


def test_one_that_does_not_come_up_is_not_waited_for_without_end(started):
    with pytest.raises(EnvironmentFault, match="was not ready after 1 s"), started("mute", patience=1):
        pass


@pytest.mark.parametrize("ask", ["busy", "silent"])
def test_what_passes_by_itself_is_no_verdict_on_what_it_serves(started, monkeypatch, ask):
    """The certificate keeps a `WorkFailed` as a form's, for ever; of an `EnvironmentFault` a later run tries again."""
    with started() as server:
        monkeypatch.setattr("tunewright.engines.process.SILENCE", 0.2)
        with pytest.raises(EnvironmentFault, match="with 503: loading" if ask == "busy" else "does not answer on port"):
            server.ask(f"/{ask}", {ask: True})


def test_a_request_of_several_answers_may_take_as_long_as_all_of_them(started, monkeypatch):
    with started() as server:
        monkeypatch.setattr("tunewright.engines.process.SILENCE", 0.2)
        assert server.ask("/bird", {"silent": True}, answers=30) == {"got": {"silent": True}}


def test_what_it_refuses_is_told_in_its_words(started):
    with started() as server, pytest.raises(Answered, match="answers /bird with 400: no such bird") as error:
        server.ask("/bird", {"bad": True})
    assert (error.value.status, error.value.words) == (400, "no such bird")


def test_a_program_that_is_not_there_is_the_machines_fault():
    with (
        pytest.raises(EnvironmentFault, match="parrot cannot be started"),
        running("parrot", lambda port: ["/nowhere/parrot"], health="/"),
    ):
        pass


def test_no_proxy_and_no_path_of_ours_comes_between(started, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    with started(more={"MORE": "given"}) as server:
        found = server.ask("/")
    assert (found["path"], found["more"]) == (None, "given")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_it_ends_with_us_even_if_we_are_killed(tmp_path, started):
    (tmp_path / "user.py").write_text(
        textwrap.dedent(f"""
        import sys, time
        from tunewright.engines import running
        words = lambda port: [sys.executable, {str(tmp_path / "server.py")!r}, str(port)]
        with running("parrot", words, health="/health") as server:
            print(server.process.pid, flush=True)
            time.sleep(60)
    """)
    )
    user = subprocess.Popen([sys.executable, str(tmp_path / "user.py")], stdout=subprocess.PIPE, text=True)
    pid = int(user.stdout.readline())
    user.kill()
    user.wait()
    until = time.monotonic() + 20
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(pid)


def test_a_port_that_was_taken_meanwhile_is_changed_for_another(started, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, ports = other.getsockname()[1], []

        def offered():
            ports.append(free_port() if ports else taken)
            return ports[-1]

        monkeypatch.setattr("tunewright.engines.process.PROBE", 0.1)
        monkeypatch.setattr("tunewright.engines.process.free_port", offered)
        with started() as server:
            assert server.ask("/bird", {"a": 1}) == {"got": {"a": 1}}
        assert (len(ports), server.port) == (2, ports[1])
        monkeypatch.setattr("tunewright.engines.process.free_port", lambda: taken)
        with pytest.raises(WorkFailed, match="Address already in use"), started():
            pass


def test_one_that_fails_by_itself_is_not_started_again(started, monkeypatch):
    ports = []
    monkeypatch.setattr("tunewright.engines.process.free_port", lambda: ports.append(free_port()) or ports[-1])
    with pytest.raises(WorkFailed, match="no model of that name"), started("dead"):
        pass
    assert len(ports) == 1


def test_a_free_port_is_one_that_can_be_listened_on():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", free_port()))
