"""The process dies at the Nth operation of the store, for every N: the next run finishes and redoes nothing."""

from __future__ import annotations

import itertools
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunewright.errors import EnvironmentFault
from tunewright.pipeline import ask, certify
from tunewright.project import Project
from tunewright.store import disk
from tunewright.store.publish import Store


@contextmanager
def in_process(form, tokenizer, scratch):
    """Parity's question without a fresh process: its start would be nearly all of each round's time."""
    with ask.opener_of(form).served(Path(form["base"]), Path(form["saved"])) as subject:
        subject.gives_likeliest, subject.seconds, subject.peak_rss_bytes = False, 0, 0
        yield subject


@pytest.fixture
def project(fake_spec, fake_host, monkeypatch):
    monkeypatch.setattr(certify, "apart", in_process)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the kernel survives; only the process dies here
    return Project.from_spec(fake_spec, host=fake_host)


def die_at(number):
    """An observer that kills this process at its Nth call; counts in `seen`."""
    seen = [0]

    def observe(moment, path):
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


def run_killed(project, root, number):
    """True if the child was killed, False if it came to its end."""
    child = os.fork()
    if child == 0:
        disk.observers.append(die_at(number))
        try:
            project.run(root)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_at_every_operation(project, tmp_path, every):
    for number in itertools.count(1, every):
        root = tmp_path / f"root{number}"
        os.environ["TUNEWRIGHT_CACHE"] = str(tmp_path / f"cache{number}")
        killed = run_killed(project, root, number)
        finished = set(project.plan().hits(Store(root)))
        summary = project.run(root).summary
        assert summary["status"] == "passed"
        redone = {step["name"] for step in summary["steps"] if step["status"] == "done"}
        assert not redone & finished, f"operation {number} made the next run redo {redone & finished}"
        assert not list(root.glob("store/.stage-*"))
        if not killed:
            break
    assert number > 100  # the loop saw the store's operations, not an early end


def test_a_full_disk_says_path_need_and_free_and_a_retry_works(project, tmp_path):
    def full(moment, path):
        if moment == "during:write" and path.name == "outcome.json":
            raise OSError(28, "No space left on device")

    disk.observers.append(full)
    try:
        with pytest.raises(EnvironmentFault, match=r"outcome.json needs [\d,]+ bytes, [\d,]+ are free"):
            project.run(tmp_path / "root")
    finally:
        disk.observers.remove(full)
    summary = project.run(tmp_path / "root").summary
    assert {s["name"] for s in summary["steps"] if s["status"] == "cached"} == {
        "fetch",
        "prepare",
        "contamination",
        "evaluate-base",
    }


@pytest.mark.parametrize("damage", ["missing", "truncated", "no manifest", "broken manifest"])
def test_a_damaged_output_is_made_again(project, tmp_path, damage):
    project.run(tmp_path / "root")
    (folder,) = (tmp_path / "root" / "store").glob("prepare-*")
    target = folder / ("manifest.json" if "manifest" in damage else "rows.jsonl")
    if damage in ("missing", "no manifest"):
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:-20])
    summary = project.run(tmp_path / "root").summary
    assert {s["name"] for s in summary["steps"] if s["status"] == "done"} == {"prepare"}
