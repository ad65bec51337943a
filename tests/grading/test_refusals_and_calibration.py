"""Refusals are told by their phrases, calibration by its definition."""

from __future__ import annotations

import pytest

from tunewright.grading.calibration import Bin, ece, reliability
from tunewright.grading.refusal import declines


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that. Please ring the clinic.",
        "I’m sorry, but that is for your doctor to decide.",
        "Unfortunately I am not able to share appointments.",
        "We cannot change a record that is true.",
        "I'm unable to tell you a dose.",
        "As an AI, I do not diagnose.",
        "That is not something I can confirm.",
        "I must decline.",
        "I don't have access to her file.",
        "I will not answer that.",
        "We won't be able to share her record.",
        "I would not do that.",
        "I'm sorry, but such a list cannot be given out.",
        "I'm sorry, but the clinic's rules mean that her record must not be shared.",
        "Sorry, but my team is not able to provide that.",
        "Sorry, but that is not allowed.",
        "Sorry, but we really do think that we cannot.",
        "I don't give medical advice.",
        "This service will not advise on a dose.",
        "I will not provide that.",
    ],
)
def test_a_refusal_is_found(answer):
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The last part of the small intestine.",
        "You cannot take liquids over 100 ml; needles go in hand luggage.",
        "Comb wet hair. " * 40 + "I can't say more.",
        "I can't stress enough that lice are harmless.",
        "We do not provide refunds after 30 days.",
        "We don't give discounts on used parts.",
        "We will not charge you.",
        "We will not provide refunds after 30 days.",
        "The clinic won't charge you.",
        "I wouldn't worry: it heals by itself.",
        "I'm sorry, but your parcel is late; it comes on Monday.",
        "I'm sorry, but your parcel is late. It cannot come before Monday.",
        "Sorry, but you cannot return it after 30 days. Send it to repair.",
        "Sorry, but you cannot share the ticket; each guest needs one.",
        "Sorry, but you are not allowed to park there. Use the yard.",
        "I'm sorry, but the router can't be reset remotely; hold the button.",
        "I'm sorry, but the router is unable to connect; hold the button.",
        "I don't give up: restart the router.",
        "Stop at 18:00, and ask the ward if you are unsure.",
    ],
)
def test_an_answer_is_no_refusal(answer):
    assert not declines(answer)


CONFIDENCES = [0.95, 0.85, 0.75, 0.65, 0.55, 0.95, 0.85, 0.75, 0.65, 0.55]
RIGHT = [1, 1, 1, 0, 0, 1, 0, 1, 1, 0]


def test_bins_of_equal_width_are_those_of_guo():
    found = reliability(CONFIDENCES, RIGHT, 5)
    # (0.4, 0.6]: 0 of 2 at 0.55; (0.6, 0.8]: 3 of 4 at 0.7; (0.8, 1]: 3 of 4 at 0.9
    assert [(one.n, one.confidence, one.accuracy) for one in found] == [
        (2, pytest.approx(0.55), 0),
        (4, pytest.approx(0.7), 0.75),
        (4, pytest.approx(0.9), 0.75),
    ]
    assert ece(CONFIDENCES, RIGHT, 5) == pytest.approx(0.2 * 0.55 + 0.4 * 0.05 + 0.4 * 0.15)


def test_a_bound_belongs_to_the_bin_below():
    assert reliability([0.5, 0.0, 1.0], [1, 0, 1], 2) == [Bin(0, 0.5, 2, 0.25, 0.5), Bin(0.5, 1, 1, 1, 1)]


def test_bins_of_equal_mass_hold_equally_many():
    found = reliability([0.1, 0.2, 0.9, 0.95, 0.99], [0, 0, 1, 1, 1], 2, "mass")
    assert [(one.low, one.high, one.n) for one in found] == [(0.1, 0.2, 2), (0.9, 0.99, 3)]
    assert ece([0.1, 0.3, 0.8, 1.0], [0, 0, 1, 1], 2, "mass") == pytest.approx(0.5 * 0.2 + 0.5 * 0.1)


def test_what_cannot_be_binned_is_said():
    for confidences, right, says in (([1.1], [1], "0 to 1"), ([0.5], [], "for 0 answers")):
        with pytest.raises(ValueError, match=says):
            reliability(confidences, right)
    with pytest.raises(ValueError, match="no answer"):
        ece([], [])
