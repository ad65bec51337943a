"""What all tests share: pinned threads, a cache of their own, and the fakes on the path as an installed plugin."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY, write_fake_spec

FAKES = str(Path(__file__).parent / "fakes")
# before any library is imported: results depend on the number of threads, and no test may reach a hub; on models as
# small as most tests have, a second thread costs more than it gives
os.environ.update({
    "OMP_NUM_THREADS": os.environ.get("TEST_THREADS", "1"), "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false",
})  # fmt: skip


def pytest_configure():
    """Nothing is flushed to the disk: no test cuts the power, and a run waits for the disk a hundred times."""
    os.fsync = lambda descriptor: None


def pytest_collection_finish():
    settled()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from workers import TorchInOneWorker

    return TorchInOneWorker(config, log)


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_looked_through_once():
    yield
    settled()


def settled():
    """Whatever is alive now stays so: thousands of tests, imported libraries. A library's trainer collects garbage
    twice a training, and would look through all of it each time, which took longer than a tiny training itself.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _forms_are_opened_in_forks():
    """Each form is asked in a fork of this process instead of one that starts afresh."""
    from forked import Forked
    from tunewright.pipeline import apart

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "started", Forked)
        yield


@pytest.fixture
def fresh_process(monkeypatch):
    """The start that users have: each form is asked in a process that starts afresh."""
    from forked import FRESH
    from tunewright.pipeline import apart

    monkeypatch.setattr(apart, "started", FRESH)


@pytest.fixture
def fakes(monkeypatch):
    """The fakes' entry point is found, here and in child processes; first-party plugins are the caller's to block."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([FAKES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))


@pytest.fixture
def fake_host(fakes):
    """A host in which every first-party plugin is blocked and the fakes fill every part."""
    from tunewright.host import Host

    return Host(blocked=FIRST_PARTY)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of base weights."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fake_spec(tmp_path, cache):
    """A folder with a spec in which every part is a fake, and its data."""
    return write_fake_spec(tmp_path / "client")
