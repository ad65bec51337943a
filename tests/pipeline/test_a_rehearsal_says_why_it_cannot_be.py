"""`run --rehearse-resume` on a training that cannot be killed and taken up says so, and what to do."""

from __future__ import annotations

import pytest

from tunewright.errors import BadInput, WorkFailed
from tunewright.project import Project


def rehearse(spec, host, *overrides):
    return Project.from_spec(spec, host=host, overrides=overrides).rehearse_resume(spec.parent / "root")


@pytest.mark.parametrize(("rows", "said"), [(1, "1 optimizer step,"), (2, "2 optimizer steps,")])
def test_a_training_that_is_over_before_the_kill_is_said_to_be_too_short(fake_spec, fake_host, rows, said):
    with pytest.raises(BadInput, match=said) as caught:
        rehearse(fake_spec, fake_host, f"data.train.0.limit={rows}")
    assert "`train` makes" in caught.value.message
    assert "rehearse 3 steps or more" in caught.value.fix


def test_a_trainer_that_commits_no_checkpoint_is_named_with_what_its_maker_owes(fake_spec, fake_host):
    with pytest.raises(WorkFailed, match="`train` could not be killed: its trainer committed no checkpoint") as caught:
        rehearse(fake_spec, fake_host)  # the fake commits where it is stopped, and not when `checkpoint_every` says
    assert "job.commit" in caught.value.fix


def test_a_training_that_fails_says_what_it_said(fake_spec, fake_host):
    with pytest.raises(WorkFailed, match=r"\(in one go\) ended with 1: .*(.|\n)*the loss is not a number") as caught:
        rehearse(fake_spec, fake_host, "trainer.fail=true")
    assert caught.value.fix
