"""`trackers:` in a spec: what works hears every step, what breaks is one warning, and the adapter is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.project import Project
from typed import typed

BLOCKED = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]
TRACKERS = "trackers: [{kind: fake, path: broken.jsonl, fail: true}, {kind: fake, path: heard.jsonl}]\n"


@pytest.fixture
def run(fake_spec, fakes, monkeypatch):
    """Types `tunewright run`: its summary, its events, and what it said on stderr; it must end with 0."""
    monkeypatch.chdir(fake_spec.parent)

    def call(spec, out):
        done = typed("run", spec, "--out", out, "--json", *BLOCKED)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        lines = (Path(summary["run_dir"]) / "events.jsonl").read_text().splitlines()
        return summary, [json.loads(line) for line in lines], done.stderr

    return call


def written(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def adapter(summary):
    folder = Path(summary["artifacts"]["adapter"])
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_one_that_breaks_is_a_warning_and_another_hears_every_step(run, fake_spec):
    plain, without, _ = run("client.yaml", "plain")
    assert not [event for event in without if event["event"] == "tracker-failed"], "off by default"
    Path("tracked.yaml").write_text(fake_spec.read_text() + TRACKERS)
    tracked, events, said = run("tracked.yaml", "tracked")
    (warning,) = [event for event in events if event["event"] == "tracker-failed"]
    assert (warning["tracker"], warning["why"]) == ("fake", "WorkFailed: the server said no")
    assert "tracker fake failed and is off: WorkFailed: the server said no" in " ".join(said.split())
    assert [line if line == "closed" else line["stage"] for line in written("broken.jsonl")] == ["train", "closed"]
    begun, *steps, end = written("heard.jsonl")
    assert begun["name"] == f"acme-{Path(tracked['run_dir']).name}"
    assert (begun["stage"], begun["arguments"]["trainer.learning_rate"]) == ("train", 0.5)
    trained = [event for event in events if event["event"] == "train"]
    assert [(step["step"], step["loss"]) for step in steps] == [
        (event["optimizer_step"], event["loss"]) for event in trained
    ]
    assert (len(steps), end) == (6, "closed")
    assert adapter(tracked) == adapter(plain)
    assert tracked["scores"] == plain["scores"]


def test_to_add_one_redoes_nothing_and_what_is_reused_is_not_shown(run, fake_spec):
    run("client.yaml", "root")
    Path("tracked.yaml").write_text(fake_spec.read_text() + TRACKERS)
    again, _, _ = run("tracked.yaml", "root")
    assert {step["status"] for step in again["steps"]} == {"cached"}
    assert not Path("heard.jsonl").exists()


def test_a_spec_that_names_none_has_none(fake_spec, fake_host):
    assert Project(fake_spec, (), fake_host).resolve().trackers == ()
