"""Alpaca, ShareGPT, OpenAI and UltraFeedback rows become what they mean, or are refused with the turn that is wrong."""

from __future__ import annotations

import json

import pytest

from tiny import tiny_tokenizer
from tunewright.data.mask import prove, tokenize
from tunewright.errors import BadInput
from tunewright.host import Host


def form(kind, **options):
    return Host().make("prompt_format", {"kind": kind, **options})


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [user("lamp?"), assistant("repair"), user("bill?"), assistant("billing")]


# --- alpaca


def test_an_instruction_and_its_input_are_one_question():
    example = form("alpaca").example({"instruction": "Route it.", "input": "lamp?", "output": "repair"})
    assert example == ([user("Route it.\n\nlamp?")], [assistant("repair")])


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_instruction_may_have_no_input(empty):
    example = form("alpaca", system="Be brief.").example({"instruction": "Go.", "input": empty, "output": "x"})
    assert example.prompt == [SYSTEM, user("Go.")]


def test_alpacas_columns_may_have_other_names():
    other = form("alpaca", instruction="task", input=None, output="result")
    assert other.example({"task": "Go.", "result": "x"}) == ([user("Go.")], [assistant("x")])
    assert other.columns() == {"task": "instruction", "result": "output"}


@pytest.mark.parametrize("column", ["instruction", "output"])
def test_an_alpaca_row_without_a_text_names_the_column(column):
    row = {"instruction": "Go.", "input": "", "output": "x", column: " "}
    with pytest.raises(BadInput, match=f"no text in column `{column}`"):
        form("alpaca").example(row)


# --- conversations


def test_of_a_conversation_the_last_answer_is_learnt_or_all_of_them():
    row = {"messages": TALK}
    assert form("openai").example(row) == (TALK[:3], TALK[3:])
    assert form("openai", learn="all").example(row) == (TALK[:1], TALK[1:])


def test_a_conversation_that_waits_for_an_answer_is_asked_whole():
    assert form("openai").prompt({"messages": TALK[:3]}) == TALK[:3]
    assert form("openai", learn="all").prompt({"messages": TALK}) == TALK[:3]


def test_a_system_message_is_put_before_conversations_that_bring_none():
    brief = form("openai", system="You are at {firm}.")
    assert brief.prompt({"messages": TALK, "firm": "Acme"})[0]["content"] == "You are at Acme."
    assert brief.prompt({"messages": [SYSTEM, *TALK], "firm": "Acme"})[0] == SYSTEM
    assert brief.columns() == {"firm": "system", "messages": "messages"}


def test_a_table_holds_a_conversation_as_json():
    assert form("openai").example({"messages": json.dumps(TALK)}) == (TALK[:3], TALK[3:])


def test_sharegpts_words_for_the_roles_are_known():
    turns = [
        ("system", "Be brief."),
        ("human", "lamp?"),
        ("gpt", "repair"),
        ("user", "bill?"),
        ("assistant", "billing"),
    ]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    assert form("sharegpt").example(row) == ([SYSTEM, *TALK[:3]], TALK[3:])


def test_parts_of_text_are_joined_and_developers_speak_for_the_system():
    parts = [{"type": "text", "text": "la"}, {"type": "text", "text": "mp?"}]
    row = {"messages": [{"role": "developer", "content": "Be brief."}, user(parts), assistant("repair")]}
    assert form("openai").example(row).prompt == [SYSTEM, user("lamp?")]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([user("x"), {"role": "tool", "content": "y"}], "turn 2 of `messages` is by `tool`"),
        ([user("x"), {"role": "function", "content": "y"}], "turn 2 of `messages` is by `function`"),
        ([user("x"), {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}], "turn 2 .* calls a tool"),
        ([user("x"), {"role": "assistant", "content": "y", "function_call": {"name": "f"}}], "turn 2 .* calls a tool"),
        ([user("x"), {"role": "assistant", "content": "y", "weight": 0}], "turn 2 .* has weight 0"),
        ([user("x"), {"role": "assistant", "content": None}], "turn 2 .* has no text"),
        ([user([{"type": "image_url", "image_url": {}}]), assistant("y")], "turn 1 .* has no text"),
        ([user("x"), assistant("  ")], "turn 2 .* is empty"),
        ([user("x"), {"content": "y"}], "turn 2 .* is no turn: it needs `role` and `content`"),
        ([user("x"), "y"], "turn 2 .* is no turn"),
        ([user("x"), {"role": ["assistant"], "content": "y"}], "turn 2"),
        ([user("x"), assistant("y"), user("z")], "does not end with an answer"),
        ([assistant("y")], "nobody asks anything"),
        ([SYSTEM, assistant("y")], "nobody asks anything"),
        ([], "holds no list of turns"),
        ({}, "holds no list of turns"),
        ("[1, 2", "neither a list of turns nor the JSON of one"),
        ("[" * 100_000, "neither a list of turns nor the JSON of one"),
        (None, "no value in column `messages`"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused_by_its_turn(messages, says):
    with pytest.raises(BadInput, match=says):
        form("openai").example({"messages": messages})


def test_an_answer_that_nobody_asked_for_is_not_learnt():
    greeting = {"messages": [assistant("Hello!"), *TALK]}
    assert form("openai").example(greeting).prompt[0] == assistant("Hello!")
    with pytest.raises(BadInput, match="begins with an answer") as caught:
        form("openai", learn="all").example(greeting)
    assert "learn: last" in caught.value.fix


def test_a_conversation_may_stand_in_two_columns():
    split = form("openai", messages="prompt", completion="completion", system="Be brief.")
    row = {"prompt": TALK[:3], "completion": TALK[3:]}
    assert split.example(row) == ([SYSTEM, *TALK[:3]], TALK[3:])
    assert split.prompt({"prompt": TALK[:3]}) == [SYSTEM, *TALK[:3]], "asking needs no answer"
    assert split.columns() == {"prompt": "messages", "completion": "completion"}
    assert split.prompt_columns() == {"prompt"}
    everything = form("openai", messages="prompt", completion="completion", learn="all")
    assert everything.example({"prompt": TALK[:1], "completion": TALK[1:]}) == (TALK[:1], TALK[1:])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": TALK, "completion": TALK[3:]}, "`prompt` ends with an answer"),
        ({"prompt": [SYSTEM], "completion": TALK[3:]}, "nobody asks anything"),
        ({"prompt": TALK[:1], "completion": TALK[:1]}, "does not end with an answer"),
        ({"prompt": TALK[:1], "completion": "repair"}, "column `completion` holds neither a list of turns"),
        ({"prompt": TALK[:1]}, "no value in column `completion`"),
    ],
)
def test_of_two_columns_one_asks_and_the_other_answers(row, says):
    with pytest.raises(BadInput, match=says):
        form("openai", messages="prompt", completion="completion").example(row)


# --- unpaired


def judged(**changes):
    return {"prompt": TALK[:3], "completion": TALK[3:], "label": True, **changes}


@pytest.mark.parametrize("as_text", [False, True])
def test_a_judged_answer_in_messages_is_what_trl_makes_of_it(as_text, tmp_path):
    """Up to the end of the answer: what TRL's template puts behind it, nobody generates. The mask is proven."""
    from trl.data_utils import apply_chat_template

    native = tiny_tokenizer()
    native.save_pretrained(tmp_path)
    row = judged(prompt=json.dumps(TALK[:3]), completion=json.dumps(TALK[3:])) if as_text else judged()
    example, loader = form("unpaired").example(row), Host().make("loader", {"kind": "transformers"})
    tokenizer = loader.tokenizer(tmp_path)
    made = tokenize("1", "train.jsonl:1", example, tokenizer)
    prove([made], [example], tokenizer, 200)
    theirs = apply_chat_template(judged(), native)
    assert tokenizer.decode(made.prompt, special=True) == theirs["prompt"]
    assert tokenizer.decode(made.completion, special=True) == theirs["completion"].rstrip("\n") == "billing<|im_end|>"
    assert made.label is theirs["label"] is True


def test_a_judged_answer_to_a_text_is_feedbacks_own():
    texts = {"prompt": "lamp?", "completion": "repair", "label": "no"}
    messages = {**texts, "completion": [assistant("repair")]}
    brief = {"system": "Be brief."}
    assert form("unpaired", **brief).example(messages) == form("feedback", **brief).example(texts)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"completion": [assistant("hm"), user("so?"), assistant("repair")]}, "holds more than an answer"),
        ({"completion": [user("so?")]}, "does not end with an answer"),
        ({"prompt": TALK}, "column `prompt` ends with an answer"),
        ({"label": "perhaps"}, "neither yes nor no"),
        ({"label": None}, "no value in column `label`"),
        ({"completion": "repair"}, "neither a list of turns nor the JSON of one"),
    ],
)
def test_what_is_no_judged_answer_is_refused(changes, says):
    with pytest.raises(BadInput, match=says):
        form("unpaired").example(judged(**changes))


# --- ultrafeedback


def pair(**changes):
    return {"prompt": "lamp?", "chosen": [user("lamp?"), assistant("repair")],
            "rejected": [user("lamp?"), assistant("no")], **changes}  # fmt: skip


def test_two_conversations_are_one_prompt_and_two_answers():
    assert form("ultrafeedback").example(pair()) == ([user("lamp?")], [assistant("repair")], [assistant("no")])


def test_two_answers_alone_are_to_what_the_prompt_asks():
    row = {"prompt": TALK[:3], "chosen": TALK[3:], "rejected": [assistant("no")]}
    assert form("ultrafeedback").example(row) == (TALK[:3], TALK[3:], [assistant("no")])
    brief = form("ultrafeedback", system="Be brief.")
    assert brief.example(row) == ([SYSTEM, *TALK[:3]], TALK[3:], [assistant("no")])
    assert brief.example({**row, "prompt": "lamp?"}).prompt == [SYSTEM, user("lamp?")]
    whole = {**row, "chosen": TALK, "rejected": [*TALK[:3], assistant("no")]}
    assert form("ultrafeedback").example(whole) == form("ultrafeedback").example(row)


def test_an_answer_of_several_turns_is_none_to_the_prompt():
    with pytest.raises(BadInput, match="answers another question"):
        form("ultrafeedback").example(pair(chosen=[assistant("repair"), assistant("now")]))


def test_without_a_column_for_it_the_prompt_is_what_stands_before_the_answer():
    row = {"chosen": TALK, "rejected": [*TALK[:3], assistant("no")]}
    alone = form("ultrafeedback", prompt=None)
    assert alone.example(row) == (TALK[:3], TALK[3:], [assistant("no")])
    assert alone.prompt_columns() == {"chosen"} and "prompt" not in alone.columns()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (pair(prompt="pump?"), "column `chosen` answers another question than `prompt` asks"),
        (pair(rejected=[user("pump?"), assistant("no")]), "column `rejected` answers another question"),
        (pair(rejected=[user("lamp?"), assistant("repair")]), "nothing to prefer"),
        (pair(rejected=[user("lamp?")]), "does not end with an answer"),
        (pair(chosen=TALK), "column `chosen` answers another question"),
    ],
)
def test_conversations_that_cannot_be_compared_are_refused(row, says):
    with pytest.raises(BadInput, match=says):
        form("ultrafeedback").example(row)


def test_of_several_turns_the_fix_names_the_option():
    with pytest.raises(BadInput) as caught:
        form("ultrafeedback").example(pair(chosen=TALK))
    assert "prompt: null" in caught.value.fix
