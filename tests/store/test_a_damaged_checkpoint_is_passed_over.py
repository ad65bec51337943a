"""The newest checkpoint that is whole is taken; a damaged one is named, never used, never deleted."""

from __future__ import annotations

import os
import signal

import pytest

from damages import DAMAGES
from tunewright.errors import Refused
from tunewright.store import disk
from tunewright.store.checkpoints import Checkpoints

FILES = {"trained.safetensors": b"weights" * 9, "optimizer.pt": b"moments" * 7, "watch.json": b"{}"}


def write(scratch, step):
    folder = scratch / "stage"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data + str(step).encode())
    return folder


@pytest.fixture
def store(tmp_path):
    found = Checkpoints(tmp_path, "key")
    for step in (10, 20, 30):
        found.commit(write(tmp_path, step), step)
    return found


def test_the_newest_is_taken_and_the_one_before_is_kept(store):
    assert store.newest()[1:] == (30, ())
    assert sorted(folder.name for folder in store.folder.iterdir()) == ["step-00000020", "step-00000030"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_with_any_file_damaged_the_one_before_is_taken_and_the_damage_named(store, name, damage):
    newest = store.folder / "step-00000030"
    DAMAGES[damage](newest / name)
    found = store.newest()
    assert found.step == 20
    (why,) = found.damaged
    assert "step-00000030" in why
    assert name in why or (name, damage) == ("manifest.json", "flipped")  # then a file is not what it should be
    assert newest.is_dir()


def test_where_none_is_whole_it_is_refused_and_nothing_is_deleted(store):
    for folder in store.folder.iterdir():
        DAMAGES["flipped"](folder / "optimizer.pt")
    with pytest.raises(Refused, match=r"optimizer\.pt was altered") as caught:
        store.newest()
    assert str(store.folder) in caught.value.fix
    assert len(list(store.folder.iterdir())) == 2


def test_where_there_is_none_there_is_none(tmp_path):
    assert Checkpoints(tmp_path, "key").newest() is None


def test_the_checkpoints_of_another_training_are_refused(store, tmp_path):
    with pytest.raises(Refused, match="of another training"):
        Checkpoints(tmp_path, "other").newest()


def test_a_step_may_be_committed_again(store, tmp_path):
    store.commit(write(tmp_path, 31), 30)
    assert (store.newest().folder / "watch.json").read_bytes() == b"{}31"


def test_a_kill_at_any_operation_of_a_commit_leaves_a_whole_checkpoint(tmp_path):
    rounds = 0
    while True:
        rounds += 1
        scratch = tmp_path / str(rounds)
        scratch.mkdir()
        store = Checkpoints(scratch, "key")
        for step in (1, 2):
            store.commit(write(scratch, step), step)
        child = os.fork()
        if child == 0:
            seen = [0]

            def observe(moment, path, seen=seen, last=rounds):
                seen[0] += 1
                if seen[0] == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            disk.observers.append(observe)
            store.commit(write(scratch, 3), 3)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        store.sweep()
        found = store.newest()
        assert found.damaged == ()
        assert found.step in (2, 3)
        assert not list(store.folder.glob(".gone-*"))
        if not killed:
            break
    assert rounds > 5
