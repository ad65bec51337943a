"""`chat` with `messages`: the row's own conversation, whole or as what came before the prompt."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunewright_basics.chat import Chat, ChatOptions


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


TALK = [user("lamp?"), assistant("repair"), user("bill?"), assistant("billing")]
ROW = {"talk": TALK[:2], "text": "bill?", "label": "billing"}


def chat(**options):
    return Chat(ChatOptions(**options))


def test_a_column_holds_the_whole_conversation():
    assert chat(messages="talk").example({"talk": TALK}) == (TALK[:3], TALK[3:])
    assert chat(messages="talk", learn="all").example({"talk": TALK}) == (TALK[:1], TALK[1:])
    assert chat(messages="talk").columns() == {"talk": "messages"}


def test_a_column_holds_the_turns_before_the_prompt():
    both = {"messages": "talk", "prompt": "{text}", "completion": "{label}"}
    assert chat(**both).example(ROW) == (TALK[:3], TALK[3:])
    assert chat(**both, learn="all").example(ROW) == (TALK[:1], TALK[1:])
    assert chat(**both).prompt_columns() == {"talk", "text"}


@pytest.mark.parametrize("none", [None, "", []])
def test_before_the_prompt_there_may_be_no_turn(none):
    both = chat(messages="talk", prompt="{text}", completion="{label}", system="Be brief.")
    example = both.example({**ROW, "talk": none})
    assert example.prompt == [{"role": "system", "content": "Be brief."}, user("bill?")]


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        ({}, {("prompt",), ("completion",)}, "Field required"),
        ({"prompt": "{a}"}, {("completion",)}, "Field required"),
        ({"completion": "{a}"}, {("prompt",)}, "Field required"),
        ({"messages": "talk", "prompt": "{a}"}, {("completion",)}, "Field required"),
        ({"messages": "talk", "completion": "{a}"}, {("completion",)}, "nothing asks for it"),
        ({"prompt": "{a}", "completion": "{b}", "learn": "all"}, {("learn",)}, "one turn has one answer"),
    ],
)
def test_options_that_do_not_go_together_are_said_at_the_one_that_is_wrong(options, where, says):
    with pytest.raises(ValidationError, match=says) as caught:
        chat(**options)
    assert {error["loc"] for error in caught.value.errors()} == where
