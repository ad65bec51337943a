"""`plan --fit` changes as little as it can, the least harmful first, and says so where nothing helps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tunewright.parts import Cap
from tunewright.parts.memory import Harm, Lever
from tunewright.pipeline.fitting import propose
from tunewright.spec.problems import SpecError

BATCH = Lever(Harm.NOTHING, "slower", ({"rows": 4}, {"rows": 2}, {"rows": 1}))
STATES = Lever(Harm.STATES, "rounded states", ({"states": "small"},))
TIME = Lever(Harm.TIME, "a third longer", ({"again": True},))
WEIGHT = {
    "rows=4": 10,
    "rows=2": 20,
    "rows=1": 25,
    "states=small": 5,
    "again=true": 30,
    "quantization={kind: tight}": 40,
}
"""What each line saves of 100."""


def spec(*levers):
    trainer = SimpleNamespace(levers=lambda: levers)
    tight = SimpleNamespace(lightens="worse answers")
    return SimpleNamespace(
        trainings=[SimpleNamespace(trainer=trainer)],
        where=lambda backend: "trainer",
        spec=SimpleNamespace(model=SimpleNamespace(dtype="bf16")),
        loader=SimpleNamespace(caution=lambda dtype: ""),
        quantizer=SimpleNamespace(offers=lambda: {Cap.FULLY_TRAINABLE}),
        host=SimpleNamespace(
            kinds=lambda part: ["plain", "tight"],
            backend=lambda part, kind: tight if kind == "tight" else SimpleNamespace(lightens=""),
        ),
    )


def forecast(lines):
    return 100 - sum(WEIGHT[line.removeprefix("trainer.")] for line in lines)


def fitted(limit, levers=(TIME, STATES, BATCH), of=forecast):
    return propose(limit, spec(*levers), of)


def test_what_fits_is_left_as_it_is():
    assert fitted(100).sets == () and fitted(100).fits


def test_the_mildest_step_of_the_least_harm_comes_first():
    assert fitted(90).sets == ("trainer.rows=4",)
    assert fitted(80).sets == ("trainer.rows=2",)


def test_harm_decides_over_the_order_and_not_the_order_that_they_are_told_in():
    assert fitted(70).sets == ("trainer.rows=1", "trainer.states=small")


def test_what_a_stronger_change_makes_needless_is_let_go():
    found = fitted(62)
    assert found.sets == ("trainer.rows=4", "trainer.again=true")  # 100 - 10 - 30, and no rounded states
    assert found.fits and found.bytes == 60


def test_a_packed_base_comes_last_and_only_where_the_backend_proposes_itself():
    found = fitted(1, of=lambda lines: max(0, forecast(lines)))
    assert found.sets[-1] == "quantization={kind: tight}" and found.changes[-1].costs == "worse answers"


def test_each_change_tells_by_how_much():
    first, second = fitted(62).changes
    assert (first.before, first.after) == (100, 90) and (second.before, second.after) == (90, 60)


def test_where_nothing_helps_the_nearest_is_told():
    found = fitted(-1)
    assert not found.fits and found.bytes == 0 and len(found.changes) == 4


def test_a_change_that_the_spec_refuses_is_passed_over():
    def refused(lines):
        if any("tight" in line for line in lines):
            raise SpecError([], {})
        return forecast(lines)

    found = fitted(20, of=refused)
    assert not any("tight" in line for line in found.sets) and not found.fits


def test_a_change_that_saves_nothing_is_not_proposed():
    def idle(lines):
        return 100 - 30 * any("again" in line for line in lines)

    assert fitted(75, of=idle).sets == ("trainer.again=true",)


@pytest.mark.parametrize("limit", range(0, 101, 5))
def test_a_proposal_is_within_its_limit_or_says_that_it_is_not(limit):
    found = fitted(limit)
    assert found.fits == (forecast(found.sets) <= limit) and found.bytes == forecast(found.sets)
