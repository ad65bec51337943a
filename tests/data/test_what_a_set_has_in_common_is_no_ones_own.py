"""Instructions and frames that prompts share: left out before texts are compared, and nothing else is."""

from __future__ import annotations

import pytest

from tunewright.data.near import near
from tunewright.data.own import FAR, LEAST, Common, words

CLASSES = ", ".join(f"class_{number:02}" for number in range(77))
INSTRUCTION = f"Route the message of a customer to one of these queues and answer with its name alone: {CLASSES}. " * 3
MESSAGES = [
    "my card has not come", "why was I charged twice", "how do I top up by cheque", "is there a fee abroad",
    "someone stole my phone", "the transfer is still pending", "I forgot my passcode", "what is the exchange rate",
]  # fmt: skip


def prompt(message: str) -> list[str]:
    return words(f"{INSTRUCTION}\n\nMessage: {message}\nQueue:")


def test_prompts_with_a_long_instruction_are_compared_by_their_messages():
    shown, asked = [prompt(text) for text in MESSAGES], [prompt("Why was I  charged TWICE?"), prompt("I lost my card")]
    assert near(shown, asked).matches.keys() == {0, 1}  # as they stand, all are nearly one
    common = Common([shown, asked])
    assert common.own(asked[1]) == ["i", "lost", "my", "card"]
    found = near([common.own(text) for text in shown], [common.own(text) for text in asked])
    assert found.groups == []
    assert {item: [(match.place, match.kind) for match in some] for item, some in found.matches.items()} == {
        0: [(1, "exact")]
    }


def test_each_task_of_a_set_has_its_own_instruction():
    tasks = [
        [words(f"{task}: {text}") for text in MESSAGES]
        for task in (
            "Name the queue that the message of the customer belongs to",
            "Say what comes next",
        )
    ]
    common = Common([[*tasks[0], *tasks[1]]])
    assert [common.own(task[0]) for task in tasks] == [words(MESSAGES[0])] * 2


@pytest.mark.parametrize("frame", [words, prompt])
def test_how_people_begin_to_ask_is_their_own(frame):
    """A fifth of the messages begin alike, and differ all the same from those that do not."""
    asked = [f"how do I {what}" for what in ("top up", "pay", "close it", "send money", "get a card", "cancel")]
    common = Common([map(frame, [*asked, *MESSAGES, *(f"{text} please" for text in MESSAGES)])])
    assert common.own(frame("how do I pay")) == ["how", "do", "i", "pay"]


def test_a_few_words_that_most_have_are_the_sets_own():
    common = Common([[words(f"Queue? {text}") for text in MESSAGES]])
    assert common.own(words(f"Queue? {MESSAGES[0]}")) == words(MESSAGES[0])


def test_what_one_set_has_in_common_is_left_out_of_the_other():
    """A few items say little of themselves."""
    shown, asked = [prompt(text) for text in MESSAGES], [prompt("I lost my card")]
    assert Common([asked]).own(asked[0]) == asked[0]
    assert Common([shown, asked]).own(asked[0]) == ["i", "lost", "my", "card"]


def test_sets_too_small_for_that_are_looked_at_together():
    shown, asked = [prompt(text) for text in MESSAGES[:3]], [prompt(text) for text in MESSAGES[3:5]]
    assert len(shown) < LEAST
    assert Common([shown, asked]).own(asked[0]) == words(MESSAGES[3])


def test_copies_of_one_row_are_no_instruction():
    copies = [words(f"my parcel with the number {number} has not come") for number in range(4)]
    others = [[f"another{place}", "text", f"of{place}"] for place in range(30)]
    common = Common([[*copies, *others]])
    assert common.own(copies[0]) == copies[0]


def test_a_beginning_that_goes_on_in_few_ways_is_no_instruction():
    """Six versions of one message: what they share is what they say."""
    start = "my parcel with the two lamps has not come"
    versions = [words(f"{start} {when} {end}") for when in ("yet", "today") for end in ("please", "sorry", "help")]
    common = Common([[*versions, *map(words, MESSAGES)]])
    assert common.own(versions[0]) == versions[0]


def test_a_prompt_that_says_nothing_of_its_own_keeps_its_words():
    shown = [prompt(text) for text in MESSAGES]
    bare = words(f"{INSTRUCTION}\n\nMessage:\nQueue:")
    assert Common([[*shown, bare]]).own(bare) == bare


def test_nothing_shared_leaves_every_word():
    shown = [words(text) for text in MESSAGES]
    common = Common([shown])
    assert [common.own(text) for text in shown] == shown


def test_a_text_that_is_a_book_is_looked_at_where_it_begins_and_ends():
    book = [f"word{place}" for place in range(3 * FAR)]
    common = Common([[[*prompt(text)[:-1], *book, "queue"] for text in MESSAGES]])
    assert common.own([*prompt("I lost my card")[:-1], *book, "queue"])[:4] == ["i", "lost", "my", "card"]
