"""A training that was interrupted under another spec is not taken up, and in what it differs is said."""

from __future__ import annotations

import pytest

from tunewright.store.publish import Store

KEY, OTHER = "a" * 64, "b" * 64
ABOUT = {"trainer": {"kind": "sft", "learning_rate": 1e-3}, "sources": {}, "inputs": {"rows": "c" * 64}}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    scratch = made.scratch("train", OTHER, ABOUT)
    for step in (10, 20):
        (scratch / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    return made


def test_the_difference_is_named(store):
    now = {**ABOUT, "trainer": {"kind": "sft", "learning_rate": 2e-3}, "inputs": {"rows": "d" * 64}}
    (said,) = store.unfinished("train", KEY, now)
    assert said == (
        "an interrupted `train` (at step 20) is not taken up: it differs in inputs.rows (cccccccc…, now dddddddd…), "
        "trainer.learning_rate (0.001, now 0.002)"
    )


def behind(**changed):
    found = {"rows": {"sources": {"train.0 train.csv": "1" * 64}}, "model": {"settings": {"name": "base-a"}}, **changed}
    return {**ABOUT, "inputs": {port: f"{made}" for port, made in found.items()}, "behind": found}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": {"sources": {"train.0 train.csv": "2" * 64}}},
         "inputs.rows.sources.train.0 train.csv (11111111…, now 22222222…)"),
        ({"model": {"settings": {"name": "base-b"}}}, "inputs.model.settings.name (base-a, now base-b)"),
    ],
)  # fmt: skip
def test_of_an_input_the_file_or_option_is_named(tmp_path, changed, said):
    made, now = Store(tmp_path), behind(**changed)
    (made.scratch("train", OTHER, behind()) / "checkpoints/step-00000010").mkdir(parents=True)
    # other rows are made of another base: the base is what has changed
    now["inputs"] = {port: f"other {key}" for port, key in now["inputs"].items()}
    (found,) = made.unfinished("train", KEY, now)
    assert found.endswith(f"it differs in {said}")


def test_an_input_that_an_earlier_version_recorded_is_told_by_its_key(store):
    now = {**ABOUT, "inputs": {"rows": "d" * 64}, "behind": {"rows": {"sources": {"train.0 train.csv": "1" * 64}}}}
    (found,) = store.unfinished("train", KEY, now)
    assert found.endswith("it differs in inputs.rows (cccccccc…, now dddddddd…)")


def test_what_the_record_cannot_show_is_said_as_such(store):
    (said,) = store.unfinished("train", KEY, ABOUT)
    assert "a library, a plugin or the step before it" in said


def test_its_own_work_and_that_of_other_steps_is_no_difference(store):
    assert store.unfinished("train", OTHER, ABOUT) == []
    assert store.unfinished("train-sft", KEY, ABOUT) == []


def test_work_without_a_checkpoint_is_nothing_to_speak_of(tmp_path):
    made = Store(tmp_path)
    made.scratch("train", OTHER, ABOUT)
    assert made.unfinished("train", KEY, {}) == []
