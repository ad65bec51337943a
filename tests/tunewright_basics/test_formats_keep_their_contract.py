"""Each format, on rows of the shape that it is for, by the conformance kit; and specs read them by their kind."""

from __future__ import annotations

import json

import pytest

from tunewright.host import Host
from tunewright.testing import check_prompt_format

TURNS = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "lamp?"},
    {"role": "assistant", "content": "repair"}, {"role": "user", "content": "bill?"},
    {"role": "assistant", "content": "billing"},
]  # fmt: skip
FROM = {"system": "system", "user": "human", "assistant": "gpt"}
SHARED = [{"from": FROM[turn["role"]], "value": turn["content"]} for turn in TURNS]
OPEN = TURNS[1:]  # without a system message of its own
WORSE = [*OPEN[:-1], {"role": "assistant", "content": "no idea"}]

CHAT = {"text": "lamp?", "label": "repair", "earlier": OPEN}
ALPACA = {"instruction": "Route it.", "input": "lamp?", "output": "repair"}
PAIR = {"prompt": "lamp?", "chosen": "repair", "rejected": "billing"}
JUDGED = {"prompt": "lamp?", "completion": "repair", "label": "yes"}
MESSAGES = {"prompt": OPEN[:3], "completion": OPEN[3:], "label": "yes"}
ULTRA = {
    "prompt": "lamp?", "chosen": OPEN[:2], "rejected": [OPEN[0], {"role": "assistant", "content": "no"}]
}  # fmt: skip

SAMPLES = {
    "chat of one turn with earlier ones": (
        "chat", {"prompt": "{text}", "completion": "{label}", "messages": "earlier"}, [CHAT],
    ),
    "completion": ("completion", {"prompt": "{text} →", "completion": " {label}"}, None),
    "text": ("text", {}, None),
    "text of two columns": ("text", {"text": "{text}: {label}"}, None),
    "preference": ("preference", {}, [PAIR, {**PAIR, "chosen": "hm"}]),
    "feedback": ("feedback", {}, [JUDGED, {**JUDGED, "label": False}]),
    "unpaired": ("unpaired", {}, [MESSAGES, {**MESSAGES, "prompt": "lamp?", "label": False}]),
    "alpaca": ("alpaca", {}, [ALPACA, {**ALPACA, "input": ""}]),
    "openai": ("openai", {}, [{"messages": OPEN}, {"messages": TURNS}]),
    "openai as JSON text": ("openai", {"learn": "all"}, [{"messages": json.dumps(OPEN)}]),
    "openai in two columns": (
        "openai", {"messages": "prompt", "completion": "completion"}, [{"prompt": OPEN[:3], "completion": OPEN[3:]}],
    ),
    "sharegpt": ("sharegpt", {}, [{"conversations": SHARED[1:]}, {"conversations": SHARED}]),
    "ultrafeedback": ("ultrafeedback", {}, [ULTRA]),
    "ultrafeedback of answers alone": (
        "ultrafeedback", {}, [{"prompt": OPEN[:3], "chosen": OPEN[3:], "rejected": WORSE[3:]}],
    ),
    "ultrafeedback of several turns": ("ultrafeedback", {"prompt": None}, [{"chosen": OPEN, "rejected": WORSE}]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_format_conforms(name, tmp_path):
    kind, options, rows = SAMPLES[name]
    check_prompt_format(Host().backend("prompt_format", kind), options, folder=tmp_path, rows=rows)


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"kind": "preference", "plain": True}, PAIR),
        ({"kind": "feedback", "plain": True}, JUDGED),
        ({"kind": "chat", "messages": "talk"}, {"talk": TURNS}),
        ({"kind": "chat", "messages": "talk", "learn": "all", "system": "Hi."}, {"talk": OPEN}),
    ],
)
def test_the_other_form_of_a_format_asks_in_use_as_in_training(options, row):

    form = Host().make("prompt_format", options)
    asked = {column: row[column] for column in form.prompt_columns()}
    assert form.prompt(asked) == form.example(row).asked
    assert set(form.columns()) == set(row)


def test_every_kind_of_row_has_a_format():
    host = Host()
    kinds = {host.backend("prompt_format", kind).makes for kind in host.kinds("prompt_format")}
    assert kinds == {"messages", "completion", "text", "preference", "feedback"}
