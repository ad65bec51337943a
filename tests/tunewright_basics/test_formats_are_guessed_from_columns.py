"""What a file looks like is said as a line to paste; the line works as it stands."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from tunewright.host import Host
from tunewright.parts.base import Head
from tunewright.parts.prompt_format import texts

ASK, REPLY = {"role": "user", "content": "lamp?"}, {"role": "assistant", "content": "repair"}
WORSE = {"role": "assistant", "content": "no"}
SHARED = [{"from": "human", "value": "lamp?"}, {"from": "gpt", "value": "repair"}]


def guesses(row, columns=None):
    host, head = Host(), Head(tuple(columns or row), (row,) if row else ())
    found = {kind: host.backend("prompt_format", kind).guess(head) for kind in host.kinds("prompt_format")}
    return {kind: line for kind, line in found.items() if line is not None}


CASES = [
    ("alpaca", {"instruction": "Route.", "input": "", "output": "repair"}, "{kind: alpaca}"),
    ("alpaca", {"instruction": "Route.", "output": "repair"}, "{kind: alpaca, input: null}"),
    ("sharegpt", {"id": 1, "conversations": SHARED}, "{kind: sharegpt}"),
    ("openai", {"messages": [ASK, REPLY]}, "{kind: openai}"),
    ("openai", {"messages": json.dumps([ASK, REPLY])}, "{kind: openai}"),
    ("ultrafeedback", {"prompt": "lamp?", "chosen": [ASK, REPLY], "rejected": [ASK, WORSE], "messages": [ASK, REPLY]},
     "{kind: ultrafeedback}"),
    ("ultrafeedback", {"chosen": [ASK, REPLY], "rejected": [ASK, WORSE]}, "{kind: ultrafeedback, prompt: null}"),
    ("ultrafeedback", {"prompt": [ASK], "chosen": [REPLY], "rejected": [WORSE]}, "{kind: ultrafeedback}"),
    ("ultrafeedback", {"prompt": json.dumps([ASK]), "chosen": json.dumps([REPLY]), "rejected": json.dumps([WORSE])},
     "{kind: ultrafeedback}"),
    ("ultrafeedback", {"prompt": "lamp?", "chosen": [REPLY], "rejected": [WORSE]}, "{kind: ultrafeedback}"),
    ("ultrafeedback", {"prompt": "lamp?", "chosen": [ASK, WORSE, ASK, REPLY], "rejected": [ASK, WORSE, ASK, WORSE]},
     "{kind: ultrafeedback, prompt: null}"),
    ("openai", {"prompt": [ASK], "completion": [REPLY]}, "{kind: openai, messages: prompt, completion: completion}"),
    ("openai", {"prompt": json.dumps([ASK]), "completion": json.dumps([REPLY])},
     "{kind: openai, messages: prompt, completion: completion}"),
    ("preference", {"prompt": "lamp?", "chosen": "repair", "rejected": "no"}, "{kind: preference}"),
    ("feedback", {"prompt": "lamp?", "completion": "repair", "label": True}, "{kind: feedback}"),
    ("feedback", {"prompt": "lamp?", "completion": "repair", "label": "no"}, "{kind: feedback}"),
    ("unpaired", {"prompt": [ASK], "completion": [REPLY], "label": True}, "{kind: unpaired}"),
    ("unpaired", {"prompt": "lamp?", "completion": json.dumps([REPLY]), "label": "no"}, "{kind: unpaired}"),
    ("text", {"text": "the lamp is dark"}, "{kind: text}"),
    ("chat", {"text": "lamp?", "label": "repair"}, '{kind: chat, prompt: "{text}", completion: "{label}"}'),
    ("chat", {"Question": "lamp?", "id": 3, "Answer": "repair"},
     '{kind: chat, prompt: "{Question}", completion: "{Answer}"}'),
    ("chat", {"input": "lamp?", "output": "repair"}, '{kind: chat, prompt: "{input}", completion: "{output}"}'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "line"), CASES)
def test_a_known_shape_is_told_by_a_line_that_works(kind, row, line):
    found = guesses(row)
    assert found[kind].startswith(f"format: {line}  # ")
    options = YAML(typ="safe", pure=True).load(found[kind])["format"]
    example = Host().make("prompt_format", options).example(row)
    assert example.answer.strip() in ("repair", "the lamp is dark")
    assert not any("[{" in text for text in texts(example.prompt)), "the turns themselves, not their JSON as a text"


@pytest.mark.parametrize(("kind", "row", "line"), CASES)
def test_no_other_format_takes_it_for_its_own(kind, row, line):
    # UltraFeedback's files hold the better conversation once more, as OpenAI's do
    others = {"openai"} if "messages" in row and "chosen" in row else set()
    assert set(guesses(row)) == {kind} | others


@pytest.mark.parametrize(
    "row",
    [
        {"a": "x", "b": "y"}, {"text": "x", "id": 4}, {"messages": "hello"}, {"messages": "[1, 2]"}, {"messages": []},
        {"conversations": [["human", "x"]]}, {"prompt": "x", "chosen": "y"}, {"messages": {"role": "user"}},
        {"prompt": "x", "completion": "y", "label": "billing"},
        # turns where a text would be wanted, and answers that nobody asked for
        {"chosen": [REPLY], "rejected": [WORSE]}, {"prompt": [REPLY], "chosen": [REPLY], "rejected": [WORSE]},
        {"prompt": [ASK], "completion": "repair"}, {"prompt": [ASK], "completion": [REPLY], "label": "billing"},
        {"prompt": "lamp?", "completion": [REPLY]}, {"question": {"en": "lamp?"}, "answer": "repair"},
        {"messages": [REPLY]}, {"prompt": [ASK, REPLY], "completion": [REPLY]},
        # UltraFeedback as it is published, before anyone chose the better answers
        {"source": "desk", "instruction": "lamp?", "models": ["a", "b"], "completions": [
            {"model": "a", "response": "repair", "overall_score": 8.5}, {"model": "b", "response": "no"}]},
    ],
)  # fmt: skip
def test_what_looks_like_nothing_is_not_guessed(row):
    assert guesses(row) == {}


def test_columns_without_rows_are_no_error():
    assert set(guesses({}, ["messages", "chosen", "rejected", "prompt", "conversations", "label"])) == set()


def test_a_column_that_no_template_can_name_is_passed_over():
    assert guesses({"text": "x", "la{bel": "y"}) == {}
