"""A base of gigabytes is digested once for several merges of a process, and anew where any of its files was touched."""

from __future__ import annotations

import os
import time

import pytest

from tunewright.errors import Refused
from tunewright.pipeline import forms
from tunewright.pipeline.forms import identity_of

HOUR = 3_600_000_000_000


@pytest.fixture
def base(fakes, tmp_path):
    from tunewright_fakes import write_safetensors

    write_safetensors(tmp_path / "model.safetensors", "base", b"the base's weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


@pytest.fixture
def digested(monkeypatch):
    """The folders that were read whole."""
    found, digest = [], forms.model_identity
    monkeypatch.setattr(forms, "model_identity", lambda folder: found.append(folder) or digest(folder))
    return found


def overwrite(path, data):
    """In place, with as many bytes, and the old time put back: as whoever hides a change would."""
    times = path.stat()
    time.sleep(0.05)  # a kernel's clock of files goes on every few milliseconds
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_it_is_read_once_and_anew_where_a_file_was_touched(base, digested, monkeypatch):
    monkeypatch.setattr(forms, "SETTLED", -HOUR)  # these files are as good as old
    first = identity_of(base)
    assert identity_of(base) == first
    assert len(digested) == 1
    weights = base / "model.safetensors"
    overwrite(weights, weights.read_bytes().replace(b"the base's", b"the case's"))
    other = identity_of(base)
    assert other != first
    overwrite(base / "tokenizer.json", b"[]")
    assert identity_of(base) not in (first, other)
    weights.unlink()
    with pytest.raises(Refused, match="holds no whole model"):
        identity_of(base)


def test_what_was_written_a_moment_ago_may_change_under_the_same_time(base, digested):
    assert identity_of(base) == identity_of(base)
    assert len(digested) == 2
