"""Through the core's threads into each library: the right numbers under the libraries' own names, and nothing else."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import threading
from types import SimpleNamespace

import arrivals
import pytest
import stand_ins

from tunewright import secrets
from tunewright.parts import Facts
from tunewright.parts.tracker import TrackedRun
from tunewright.pipeline.trackers import Trackers
from tunewright_trackers.mlflow import MlflowTracker
from tunewright_trackers.tensorboard import TensorboardTracker
from tunewright_trackers.trackio import TrackioTracker
from tunewright_trackers.wandb import WandbTracker

LOSSES = [2.5, 1.25, 0.625]
ABOUT = TrackedRun("acme-support", "", {"trainer": {"epochs": 2, "note": "canary-77aa"}})
KEY = "canary-77aa"


@pytest.fixture(autouse=True)
def canary(monkeypatch):
    """A secret that the process has read, and one that only stands in the environment."""
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setenv("ACME_OTHER", "canary-other")
    secrets.reveal("${env:ACME_KEY}")
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back after whoever was left alone


@pytest.fixture
def no_network(monkeypatch):
    """Every name that is looked up and every address that is called, all of which fail."""
    asked = []

    def refuse(*told, **more):
        asked.append(told)
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: refuse(address))
    return asked


def made(tracker, **options):
    given = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return tracker(tracker.Options.model_validate({"kind": tracker.kind, **given}))


def show(tracker, *, patience=30, stage="train-sft"):
    """The warnings of a run of three steps and one validation."""
    warned = []
    with Trackers([tracker], ABOUT, warned.append, patience=patience) as heard:
        for step, loss in enumerate(LOSSES, 1):
            heard.hear({"event": "train", "step": stage, "optimizer_step": step, "loss": loss, "learning_rate": 0.5})
        heard.hear({"event": "validation", "step": stage, "optimizer_step": 3, "loss": 0.75})
    return warned


def test_tensorboards_files_hold_the_scalars(tmp_path, no_network):
    pytest.importorskip("tensorboard")
    assert show(made(TensorboardTracker, dir=tmp_path / "tb")) == []
    found = arrivals.of_tensorboard(tmp_path / "tb")
    where = "tb/acme-support/train-sft"
    assert found[f"{where}:train/loss"] == [(1, 2.5), (2, 1.25), (3, 0.625)]
    assert found[f"{where}:train/learning_rate"] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert found[f"{where}:eval/loss"] == [(3, 0.75)]
    (text,) = found[f"{where}:args/text_summary"]
    assert '"trainer.epochs": 2' in text
    assert '"trainer.note": "${env:ACME_KEY}"' in text
    assert_nothing_spilt(tmp_path)
    assert no_network == []


def assert_nothing_spilt(folder):
    for file in folder.rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes(), file


def test_tensorboard_takes_no_folder_from_the_environment(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "elsewhere"))
    show(made(TensorboardTracker, dir=tmp_path / "tb"))
    assert [path.name for path in tmp_path.iterdir()] == ["tb"]


def test_mlflow_keeps_runs_in_a_folder_and_nothing_of_the_machine(tmp_path, no_network, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TAGS", '{"secret": "canary"}')
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    before = dict(os.environ), mlflow.get_tracking_uri()
    assert show(made(MlflowTracker, dir=tmp_path / "runs", experiment="acme")) == []
    assert (dict(os.environ), mlflow.get_tracking_uri()) == before
    assert mlflow.active_run() is None
    run = arrivals.of_mlflow(tmp_path / "runs")["runs:acme:acme-support/train-sft"]
    assert run["metrics"]["loss"] == [(1, 2.5), (2, 1.25), (3, 0.625)]
    assert run["metrics"]["eval_loss"] == [(3, 0.75)]
    assert run["params"]["trainer.epochs"] == "2"
    assert run["params"]["trainer.note"] == "${env:ACME_KEY}"
    assert set(run["tags"]) == {"mlflow.runName"}
    assert (run["status"], run["user"]) == ("FINISHED", "")
    assert_nothing_spilt(tmp_path)
    assert no_network == []


def test_mlflow_draws_nothing_from_the_generator_that_a_training_draws_from(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    import uuid

    # the last 18 digits begin with zeros: MLflow draws as many more
    monkeypatch.setattr("mlflow.utils.name_utils.uuid", SimpleNamespace(uuid4=lambda: uuid.UUID(int=10**18 + 5)))
    before = random.getstate()
    assert show(made(MlflowTracker, dir=tmp_path / "runs", experiment="acme")) == []
    assert random.getstate() == before
    assert "runs:acme:acme-support/train-sft" in arrivals.of_mlflow(tmp_path / "runs")


def test_mlflows_server_gets_the_numbers_with_the_token_of_the_spec(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-of-the-environment")
    with stand_ins.mlflow_server() as (url, heard):
        tracker = made(MlflowTracker, uri=url, experiment="acme", token="${env:ACME_KEY}")
        assert list(tracker.clashes()) == []
        assert show(tracker) == []
    batches = [body for call, body, _ in heard if call == "runs/log-batch"]
    losses = [metric["value"] for body in batches for metric in body.get("metrics", ()) if metric["key"] == "loss"]
    assert losses == LOSSES
    assert {headers.get("Authorization") for call, _, headers in heard if "runs/" in call} == {f"Bearer {KEY}"}
    assert "canary" not in repr([body for _, body, _ in heard])
    assert [call for call, _, _ in heard][-1] == "runs/update"


def test_a_server_that_is_down_costs_one_warning():
    pytest.importorskip("mlflow")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: whoever connects is refused
        tracker = made(MlflowTracker, uri=f"http://127.0.0.1:{taken.getsockname()[1]}")
        (warning,) = show(tracker, patience=0.5)
    assert (warning["event"], warning["tracker"]) == ("tracker-failed", "mlflow")


def test_a_server_that_is_down_does_not_change_what_a_training_draws(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    waited = threading.Event()
    retry = pytest.importorskip("urllib3.util.retry").Retry
    backoff = retry.get_backoff_time

    def noted(self):
        seconds = backoff(self)  # draws how long it waits, from the second failure on
        if seconds > 0:
            waited.set()
        return seconds

    monkeypatch.setattr(retry, "get_backoff_time", noted)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        tracker = made(MlflowTracker, uri=f"http://127.0.0.1:{taken.getsockname()[1]}")
        before = random.getstate()
        with Trackers([tracker], ABOUT, lambda event: None, patience=0.1) as heard:
            heard.hear({"event": "train", "step": "train", "optimizer_step": 1, "loss": 1.0})
            assert waited.wait(60)
        assert random.getstate() == before


def test_a_server_that_cuts_the_line_costs_one_warning():
    pytest.importorskip("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def cut():
            try:
                while True:
                    line, _ = server.accept()
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    line.close()
            except OSError:
                return

        thread = threading.Thread(target=cut, daemon=True)
        thread.start()
        (warning,) = show(made(MlflowTracker, uri=f"http://127.0.0.1:{server.getsockname()[1]}"), patience=0.5)
    assert warning["tracker"] == "mlflow"


def test_trackio_stays_on_this_machine_whatever_the_environment_says(monkeypatch):
    runs, seen = stand_ins.trackio(monkeypatch)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "acme/space")
    monkeypatch.setenv("TRACKIO_SERVER_URL", "https://acme.example")
    assert show(made(TrackioTracker, project="acme")) == []
    (run,) = runs
    assert run.settings["project"] == "acme"
    assert not {"space_id", "server_url"} & run.settings.keys()
    assert not any(name.startswith("TRACKIO_") for name in seen[0])
    assert os.environ["TRACKIO_SPACE_ID"] == "acme/space"
    assert (run.settings["auto_log_gpu"], run.settings["auto_log_cpu"]) == (False, False)
    assert [values["train/loss"] for _, values in run.logged[:3]] == LOSSES
    assert [step for step, _ in run.logged] == [1, 2, 3, 3]
    assert run.logged[3][1]["eval/loss"] == 0.75
    assert (run.config["trainer.note"], run.finished) == ("${env:ACME_KEY}", 1)


def test_wandb_is_offline_and_collects_nothing_by_itself(tmp_path, monkeypatch):
    runs = stand_ins.wandb(monkeypatch)
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    monkeypatch.setenv("WANDB_PROJECT", "another")
    assert show(made(WandbTracker, project="acme", dir=tmp_path / "wb")) == []
    (run,) = runs
    assert (run.settings["mode"], run.settings["project"]) == ("offline", "acme")
    assert run.settings["root_dir"] == str(tmp_path / "wb")
    assert "api_key" not in run.settings
    assert run.settings["disable_git"] and run.settings["x_disable_stats"] and run.settings["console"] == "off"
    assert [values["train/loss"] for _, values in run.logged[:3]] == LOSSES
    assert (run.config["trainer.note"], run.finished) == ("${env:ACME_KEY}", 1)


def test_wandb_online_takes_the_key_of_the_spec(tmp_path, monkeypatch):
    runs = stand_ins.wandb(monkeypatch)
    show(made(WandbTracker, dir=tmp_path, mode="online", api_key="${env:ACME_KEY}", uri="https://wandb.acme.example"))
    settings = runs[0].settings
    assert (settings["mode"], settings["api_key"]) == ("online", KEY)
    assert settings["base_url"] == "https://wandb.acme.example"


def test_what_a_library_says_names_the_tracker_and_no_secret(tmp_path, monkeypatch):
    runs = stand_ins.wandb(monkeypatch)

    def refuse():
        raise PermissionError(f"the key {KEY} is not known")

    monkeypatch.setattr(stand_ins.Run, "define_metric", lambda *told, **how: refuse())
    (warning,) = show(made(WandbTracker, dir=tmp_path))
    assert warning["why"] == (
        "EnvironmentFault: tracker `wandb`: PermissionError: the key ${env:ACME_KEY} is not known"
    )
    assert runs[0].finished == 1


@pytest.mark.parametrize("tracker", [MlflowTracker, TensorboardTracker, TrackioTracker, WandbTracker])
def test_a_library_that_is_not_installed_is_said_before_anything_is_done(tracker, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (finding,) = made(tracker).check(Facts())
    assert finding.code == "requirement-unmet"
    assert tracker.library in finding.message
    assert finding.suggestion == 'pip install "tunewright[track]"'


@pytest.mark.parametrize(
    ("tracker", "options", "field"),
    [
        (MlflowTracker, {"uri": "https://mlflow.acme.example", "dir": "runs"}, "dir"),
        (MlflowTracker, {"token": "${env:ACME_KEY}"}, "token"),
        (WandbTracker, {"mode": "online"}, "mode"),
        (WandbTracker, {"api_key": "${env:ACME_KEY}"}, "api_key"),
        (WandbTracker, {"uri": "https://wandb.acme.example"}, "uri"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(tracker, options, field):
    (finding,) = made(tracker, **options).clashes()
    assert (finding.code, finding.field) == ("bad-value", field)
    assert finding.suggestion


@pytest.mark.parametrize("uri", ["https://user:password@mlflow.acme.example", "sqlite:///runs.db", "mlruns"])
def test_mlflows_uri_is_a_servers_without_a_password(uri):
    with pytest.raises(ValueError, match="uri"):
        made(MlflowTracker, uri=uri)


def test_a_key_never_stands_in_a_spec():
    with pytest.raises(ValueError, match="never stands in a spec"):
        made(WandbTracker, mode="online", api_key="0123456789")
