"""Each deliberately broken backend is told by exactly its own code, and sound ones by none."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import kit_broken
import kit_sound
import pytest
from kit_broken import BROKEN, Case
from kit_numpy import Heavy

from tunewright.testing import CODES, NonConforming, check, contract, state

CASES = [*BROKEN, Case(Heavy, "heavy-import", {})]
IMPORTED = (Heavy, kit_broken.HeavyCheck, kit_broken.Nowhere)
NEED_TORCH = {"base-changed", "memory-untrue"}  # shown in test_the_kit_knows_torch.py


@pytest.fixture
def cleaned(monkeypatch):
    """What broken backends leave behind is taken away."""
    yield
    for path in kit_broken.LEFT:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    kit_broken.LEFT.clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.backend.__name__)
def test_a_broken_backend_is_told_by_its_own_code(case, tmp_path, cleaned, monkeypatch):
    if case.backend not in IMPORTED:  # it takes a process, and says nothing of the others
        monkeypatch.setattr(contract, "check_import", lambda *told: None)
    with pytest.raises(NonConforming) as error:
        kit_sound.check_in_the_fakes_world(case.backend, tmp_path, case.options)
    assert error.value.codes == {case.code}, str(error.value)


@pytest.mark.parametrize("backend", kit_sound.SOUND, ids=lambda backend: backend.__name__)
def test_a_sound_backend_passes(backend, tmp_path):
    kit_sound.check_in_the_fakes_world(backend, tmp_path, {})


def test_every_code_has_a_backend_that_breaks_it():
    assert {case.code for case in CASES} | NEED_TORCH == set(CODES)


def test_all_that_is_wrong_is_said_at_once_with_what_to_do(tmp_path):
    with pytest.raises(NonConforming) as error:
        check(kit_broken.BrokenInThreeWays, folder=tmp_path)
    said = str(error.value)
    assert said.startswith("gate/sound (`kit_broken:BrokenInThreeWays`) breaks its contract (")
    assert "bad-contract: `reads` names `at_lest`, which is no field of its Options" in said
    assert "bad-contract: `libraries` is not a tuple of distributions' names" in said
    assert "bad-contract: `judge` gives namespace(" in said


def test_a_library_that_an_exception_came_through_is_not_blamed_but_the_plugins_line_is(tmp_path):
    with pytest.raises(NonConforming, match=r"kit_broken\.py:\d+"):
        check(kit_broken.KeyErrorOnNoEvidence, folder=tmp_path)


class Writes(kit_sound.Database):
    after = "insert into rows values ('kit', 'kit')"


def test_a_database_may_be_opened_and_not_written_in(tmp_path):
    path = tmp_path / "rows.db"
    with closing(sqlite3.connect(path)) as base:
        base.execute("create table rows (text, label)")
        base.execute("insert into rows values ('where is my parcel', 'delivery')")
        base.commit()
    check(kit_sound.Database, {"path": path}, folder=tmp_path / "sound")
    with pytest.raises(NonConforming, match=f"writes-outside: write `{path}`"):
        check(Writes, {"path": path}, folder=tmp_path / "broken")


def test_two_checks_may_share_a_folder(tmp_path):
    for _ in range(2):
        check(kit_sound.Format, folder=tmp_path)


def test_what_is_of_no_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is of no part"):
        check(int, folder=tmp_path)


def test_a_check_leaves_the_process_as_it_was(tmp_path):
    before = state.snapshot()
    for backend in (kit_broken.LeavesEnvironment, kit_broken.LeavesFolder, kit_broken.LeavesUmask):
        folder = Path(tmp_path / backend.__name__)
        with pytest.raises(NonConforming):
            check(backend, folder=folder)
    assert list(state.differences(before, state.snapshot())) == []
