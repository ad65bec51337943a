"""`preference`, `feedback`, `completion` and `text`: what a row becomes, and which rows are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunewright.errors import BadInput
from tunewright.host import Host


def form(kind, **options):
    return Host().make("prompt_format", {"kind": kind, **options})


PAIR = {"prompt": "lamp?", "chosen": "repair", "rejected": "billing", "firm": "Acme"}
JUDGED = {"prompt": "lamp?", "completion": "repair", "label": "yes"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_a_pair_is_a_conversation_with_two_ends():
    example = form("preference", system="You are at {firm}.").example(PAIR)
    assert example.prompt == [{"role": "system", "content": "You are at Acme."}, user("lamp?")]
    assert (example.chosen, example.rejected) == ([assistant("repair")], [assistant("billing")])


def test_a_plain_pair_is_three_texts_as_they_are_written():
    plain = form("preference", plain=True, prompt="{prompt} →", chosen=" {chosen}", rejected=" {rejected}")
    assert plain.example(PAIR) == ("lamp? →", " repair", " billing")


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_an_empty_side_is_refused_by_its_option(column):
    with pytest.raises(BadInput, match=f"`{column}` is empty"):
        form("preference").example({**PAIR, column: " "})


def test_equal_sides_are_refused():
    with pytest.raises(BadInput, match="nothing to prefer"):
        form("preference").example({**PAIR, "rejected": "repair"})


@pytest.mark.parametrize("kind", ["preference", "feedback"])
def test_plain_text_has_no_system_message(kind):
    with pytest.raises(ValidationError, match="write what `system` says into `prompt`"):
        form(kind, plain=True, system="Be brief.")


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("true", True), ("True", True), (" YES ", True), ("1", True), (1, True), (True, True),
     ("false", False), ("no", False), ("0", False), (0, False), (False, False)],
)  # fmt: skip
def test_a_label_is_read_as_yes_or_no(written, wanted):
    assert form("feedback").example({**JUDGED, "label": written}).label is wanted


@pytest.mark.parametrize("written", ["maybe", "", "2", 2, -1, 0.5, "y", "good", [True], {"a": 1}])
def test_a_label_that_is_neither_is_refused_with_its_value(written):
    with pytest.raises(BadInput, match="neither yes nor no") as caught:
        form("feedback").example({**JUDGED, "label": written})
    assert f"`{written}`" in caught.value.message and "1 or 0" in caught.value.fix


def test_a_missing_label_names_its_column():
    with pytest.raises(BadInput, match="no value in column `thumb`"):
        form("feedback", label="thumb").example(JUDGED)
    assert form("feedback", label="thumb").columns()["thumb"] == "label"


def test_feedback_may_be_plain():
    plain = form("feedback", plain=True, completion=" {completion}")
    assert plain.example(JUDGED) == ("lamp?", " repair", True)


def test_a_completion_is_two_texts_and_nothing_is_put_between():
    plain = form("completion", prompt="Q: {text}\nA:", completion=" {label}")
    assert plain.example({"text": "lamp?", "label": "repair"}) == ("Q: lamp?\nA:", " repair")
    assert plain.prompt_columns() == {"text"}


@pytest.mark.parametrize(("column", "option"), [("text", "prompt"), ("label", "completion")])
def test_an_empty_half_of_a_completion_is_refused(column, option):
    plain = form("completion", prompt="{text}", completion="{label}")
    with pytest.raises(BadInput, match=f"`{option}` is empty"):
        plain.example({"text": "lamp?", "label": "repair", column: " "})


def test_a_text_is_learnt_whole_and_a_model_is_asked_to_go_on_with_it():
    whole = form("text", text="{title}\n\n{body}")
    row = {"title": "Lamps", "body": "They shine."}
    assert whole.example(row) == ("", "Lamps\n\nThey shine.")
    assert whole.prompt(row) == "Lamps\n\nThey shine."


def test_a_list_of_texts_is_a_text_of_lines_and_any_other_list_is_none():
    assert form("text").example({"text": ["one", "two"]}).completion == "one\ntwo"
    for value, shape in (([1, 2], "a list"), ({"a": "b"}, "an object")):
        with pytest.raises(BadInput, match=f"holds {shape}, which is no text"):
            form("text").example({"text": value})


def test_an_empty_text_is_refused():
    with pytest.raises(BadInput, match="`text` is empty"):
        form("text").example({"text": "\n "})


@pytest.mark.parametrize(
    ("kind", "options"),
    [("text", {"text": "the same"}), ("completion", {"prompt": "a", "completion": "{b}"}),
     ("preference", {"chosen": "the same"}), ("feedback", {"completion": "the same"})],
)  # fmt: skip
def test_a_text_that_names_no_column_is_refused(kind, options):
    with pytest.raises(ValidationError, match="names no column"):
        form(kind, **options)
