"""`no_contamination`: what was learnt of the questions closes the gate, and so does not having looked."""

from __future__ import annotations

import pytest

from tunewright.parts.base import Facts
from tunewright.parts.gate import Contamination, Evidence
from tunewright.testing import check_gate
from tunewright_basics.no_contamination import NoContamination, NoContaminationOptions

FOUND = Contamination(40, {"heldout": ("a", "b"), "legal": ("c",), "general": ()}, 0.8)


def judged(found, **options):
    return NoContamination(NoContaminationOptions(**options)).judge(Evidence({}, found))


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ({}, False),
        ({"at_most": 2}, False),
        ({"at_most": 3}, True),
        ({"evaluation": "general"}, True),
        ({"evaluation": "legal"}, False),
        ({"evaluation": "legal", "at_most": 1}, True),
        ({"evaluation": "heldout", "at_most": 1}, False),
    ],
)
def test_items_are_counted_of_the_evaluation_that_is_named(options, passed):
    assert judged(FOUND, **options).passed is passed


def test_it_says_what_was_asked_and_what_was_found():
    verdict = judged(FOUND, at_most=2)
    assert verdict.gate == "at most 2 items of any evaluation stand among the rows that were learnt or chosen by"
    assert verdict.why == "3 of them were found: 2 of `heldout`, 1 of `legal`"
    assert judged(FOUND, evaluation="general").why == "none of them were found"


@pytest.mark.parametrize("found", [None, Contamination(0, {}, 0.8), Contamination(0, {"heldout": ()}, 0.8)])
def test_having_looked_at_nothing_is_no_proof(found):
    verdict = judged(found, at_most=1000)
    assert not verdict.passed
    assert "no item was looked up" in verdict.why


def test_what_a_parent_may_have_learnt_closes_the_gate_of_whoever_asks_about_it():
    found = Contamination(40, {"heldout": (), "legal": ()}, 0.8, {"legal": 3})
    verdict = judged(found, at_most=1000)
    assert not verdict.passed
    assert verdict.why == "none of them were found, but what the parent learnt was not looked at for 3 of `legal`"
    assert judged(found, evaluation="heldout").passed
    assert not judged(found, evaluation="legal").passed


def test_an_evaluation_that_was_not_looked_up_is_none_that_is_clean():
    verdict = judged(FOUND, evaluation="medical")
    assert not verdict.passed
    assert "no item of `medical` was looked up, only those of `general`, `heldout`, `legal`" in verdict.why


def test_a_name_that_no_evaluation_has_is_said_before_anything_runs():
    facts = Facts(evaluations=frozenset({"heldout"}))
    (finding,) = NoContamination(NoContaminationOptions(evaluation="heldoud")).check(facts)
    assert (finding.field, finding.message) == ("evaluation", "no evaluation is called `heldoud`")
    assert "heldout" in finding.suggestion
    assert not list(NoContamination(NoContaminationOptions(evaluation="heldout")).check(facts))


def test_it_keeps_its_contract(tmp_path):
    check_gate(NoContamination, {}, folder=tmp_path, evidence=Evidence({}, FOUND))
