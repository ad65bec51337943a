"""Of every kind of row, exactly what generation will have to produce is supervised; whatever is wrong is said."""

from __future__ import annotations

import dataclasses

import pytest

from tunewright.data.mask import (
    MaskViolation,
    length,
    prompt_ids,
    prove,
    sequences,
    spans,
    tokenize,
    view,
    violations,
)  # fmt: skip
from tunewright.errors import BadInput
from tunewright.parts.prompt_format import Example, Feedback, Preference
from tunewright.parts.trainer import FeedbackRow, PairRow, TokenRow

BOS = 5


@pytest.fixture
def tokenizer(fakes):
    from tunewright_fakes import FakeTokenizer

    return FakeTokenizer()


@pytest.fixture
def beginning(tokenizer, monkeypatch):
    """A tokenizer with a BOS before plain texts."""
    monkeypatch.setattr(type(tokenizer), "begin", [BOS])
    return tokenizer


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def made(example, tokenizer):
    return tokenize("1", "train.csv:17", example, tokenizer)


def found(row, example, tokenizer, limit=100):
    return " / ".join(violations(row, example, tokenizer, limit))


def learnt(row, tokenizer):
    """The supervised text, a gap for what stands between."""
    parts = ["⟦" + span.text if span.supervised else "·" for span in spans(row, tokenizer)]
    return "".join(parts).replace("⟦", "")


def changed(row, **values):
    return dataclasses.replace(row, **values)


# --- conversations of several turns

TURNS = [user("lamp?"), assistant("repair"), user("and the bill?"), assistant("billing")]
ALL = Example(TURNS[:1], TURNS[1:])


def test_of_several_turns_each_answer_and_its_terminator_is_learnt_and_no_question(tokenizer):
    row = made(ALL, tokenizer)
    assert found(row, ALL, tokenizer) == ""
    assert [part for part in learnt(row, tokenizer).split("·") if part] == ["repair\x03", "billing\x03"]


def test_with_the_last_alone_the_first_answer_is_part_of_the_prompt(tokenizer):
    last = Example(TURNS[:3], TURNS[3:])
    row = made(last, tokenizer)
    assert found(row, last, tokenizer) == ""
    assert row.ids == made(ALL, tokenizer).ids
    assert [part for part in learnt(row, tokenizer).split("·") if part] == ["billing\x03"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ids, labels, at: labels.__setitem__(at, -100), "answer 1 of 2: the first 1 tokens of the answer"),
        (lambda ids, labels, at: labels.__setitem__(at - 1, ids[at - 1]), "answer 1 of 2: 1 tokens of the prompt"),
        (lambda ids, labels, at: labels.__setitem__(at + 6, -100), "answer 1 of 2: the terminator is not supervised"),
        (
            lambda ids, labels, at: labels.__setitem__(at + 9, ids[at + 9]),
            "answer 1 of 2: the supervised tokens are not",
        ),
        (
            lambda ids, labels, at: labels.__setitem__(slice(at, at + 7), [-100] * 7),
            "answer 1 of 2: none of its tokens",
        ),
        (lambda ids, labels, at: labels.__setitem__(-1, -100), "answer 2 of 2: the supervised tokens are not one run"),
    ],
    ids=["a token of it", "a token before it", "its terminator", "a question's token", "the whole answer", "the end"],
)
def test_a_wrong_mask_in_the_middle_of_a_conversation_is_caught(tokenizer, change, says):
    row = made(ALL, tokenizer)
    labels = list(row.labels)
    change(row.ids, labels, next(at for at, label in enumerate(labels) if label != -100))
    assert says in found(changed(row, labels=labels), ALL, tokenizer)


def test_a_template_that_drops_earlier_turns_is_told_to_learn_the_last_one(tokenizer, monkeypatch):
    """As Qwen3's drops the thoughts of all but the last answer."""
    render = type(tokenizer).render

    def forgetful(self, messages, *, generation_prompt):
        kept = [
            {**message, "content": message["content"].rpartition("</think>")[2]}
            if place < len(messages) - 1
            else message
            for place, message in enumerate(messages)
        ]
        return render(self, kept, generation_prompt=generation_prompt)

    monkeypatch.setattr(type(tokenizer), "render", forgetful)
    thoughtful = [user("lamp?"), assistant("<think>dark</think>repair"), user("bill?"), assistant("billing")]
    every = Example(thoughtful[:1], thoughtful[1:])
    said = found(made(every, tokenizer), every, tokenizer)
    assert said.startswith("answer 1 of 2: ") and "use `learn: last`" in said
    last = Example(thoughtful[:3], thoughtful[3:])
    assert found(made(last, tokenizer), last, tokenizer) == ""


def test_a_prompt_that_an_earlier_turn_would_not_be_generated_from_is_caught(tokenizer, monkeypatch):
    """As with templates that add to the generation prompt what they leave out of earlier turns."""
    render = type(tokenizer).render

    def eager(self, messages, *, generation_prompt):
        text = render(self, messages, generation_prompt=generation_prompt)
        return text + "<no-think>" if generation_prompt else text[:-9] + "<no-think>" + text[-9:]

    monkeypatch.setattr(type(tokenizer), "render", eager)
    said = found(made(ALL, tokenizer), ALL, tokenizer)
    assert "answer 1 of 2" in said and "differs from the prompt that generation will start from" in said
    assert "answer 2 of 2" not in said and "use `learn: last`" in said


def test_a_conversation_that_ends_with_a_question_is_refused(tokenizer):
    example = Example(TURNS[:1], TURNS[1:3])
    assert "the last message is not the assistant's" in found(made(example, tokenizer), example, tokenizer)


# --- plain text

PLAIN = Example("lamp? →", " repair")


def test_a_completion_is_learnt_with_the_end_of_text_after_exactly_the_prompts_tokens(beginning):
    row = made(PLAIN, beginning)
    assert row.ids[: len(row.ids) - 8] == prompt_ids("lamp? →", beginning) == [BOS, *map(ord, "lamp? →")]
    assert row.labels == [-100] * 8 + [*map(ord, " repair"), 3]
    assert found(row, PLAIN, beginning) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"end": True}, "the terminator is not supervised"),
        ({"unlearnt": 1}, "the first 1 tokens of the answer are not supervised"),
        ({"unlearnt": -1}, "1 tokens of the prompt are supervised"),
        ({"begin": True}, "at token 0 the row differs from the prompt that generation will start from"),
        ({"text": True}, "the supervised text is 'Repair', the answer is 'repair'"),
    ],
)
def test_a_wrong_completion_row_is_caught(beginning, change, says):
    ids, start = [BOS, *map(ord, "lamp? → repair"), 3], 8
    if change.get("text"):
        ids[9] = ord("R")
    start += change.get("unlearnt", 0)
    labels = [-100] * start + ids[start:]
    if change.get("end"):
        ids, labels = ids[:-1], labels[:-1]
    if change.get("begin"):
        ids, labels = ids[1:], labels[1:]
    assert says in found(TokenRow("1", "o", ids, labels), PLAIN, beginning)


def test_a_completion_that_holds_the_terminator_is_caught(tokenizer):
    example = Example("lamp? →", " re\x03pair")
    assert "holds a terminator" in found(made(example, tokenizer), example, tokenizer)


def test_of_a_text_every_token_is_learnt_and_its_ends_are_marked(beginning):
    example = Example("", "the lamp is dark")
    row = made(example, beginning)
    assert row.ids == row.labels == [BOS, *map(ord, "the lamp is dark"), 3]
    assert found(row, example, beginning) == ""
    assert row.supervised == len(row.ids) - 1  # nothing stands before the first


@pytest.mark.parametrize(
    ("ids", "masked", "says"),
    [
        ([*map(ord, "dark"), 3], 0, "at token 0 the row differs"),
        ([BOS, *map(ord, "dark")], 0, "the terminator is not supervised"),
        ([BOS, *map(ord, "dark"), 3], 2, "the first 2 tokens"),
        ([BOS, *map(ord, "dar"), 3], 0, "the supervised text is 'dar', the answer is 'dark'"),
    ],
)
def test_a_wrong_text_row_is_caught(beginning, ids, masked, says):
    row = TokenRow("1", "o", ids, [-100] * masked + ids[masked:])
    assert says in found(row, Example("", "dark"), beginning)


def test_texts_of_any_length_are_proven_where_no_limit_is_given(tokenizer):
    example = Example("", "word " * 100)
    row = made(example, tokenizer)
    prove([row], [example], tokenizer, None)
    shorter = Example("", "word " * 99)
    with pytest.raises(MaskViolation, match=r"set `trainer\.max_length: 501`"):  # that fits every row
        prove([row, made(shorter, tokenizer)], [example, shorter], tokenizer, 400)


def test_of_a_long_text_the_message_shows_where_it_differs(tokenizer):
    example = Example("", "a" * 3000 + " other " + "b" * 3000)
    row = made(Example("", "a" * 3000 + " Other " + "b" * 3000), tokenizer)
    said = found(row, example, tokenizer, None)
    assert " Other bb" in said and " other bb" in said and len(said) < 400


def test_an_accent_of_its_own_is_the_same_answer(tokenizer, monkeypatch):
    """Qwen's tokenizers join a letter and its accent (NFC)."""
    import unicodedata

    encode = type(tokenizer).encode
    monkeypatch.setattr(type(tokenizer), "encode", lambda self, text: encode(self, unicodedata.normalize("NFC", text)))
    example = Example("", "cafe\u0301")
    assert found(made(example, tokenizer), example, tokenizer) == ""


def test_half_a_conversation_is_refused_by_its_place(tokenizer):
    with pytest.raises(BadInput, match=r"train\.csv:17: one of prompt and completion"):
        made(Example([user("lamp?")], "repair"), tokenizer)


# --- preferences and feedback

ASKED = [{"role": "system", "content": "Route."}, user("lamp?")]
PAIR = Preference(ASKED, [assistant("repair")], [assistant("billing")])
PLAIN_PAIR = Preference("lamp? →", " repair", " billing")
JUDGED = Feedback(ASKED, [assistant("billing")], False)


@pytest.mark.parametrize("pair", [PAIR, PLAIN_PAIR], ids=["conversation", "plain"])
def test_a_pair_is_one_prompt_and_two_completions_with_their_terminators(beginning, pair):
    row = made(pair, beginning)
    assert isinstance(row, PairRow)
    assert row.prompt == prompt_ids(pair.prompt, beginning)
    assert [beginning.decode(side, special=True).strip() for side in (row.chosen, row.rejected)] == [
        "repair\x03", "billing\x03"
    ]  # fmt: skip
    assert found(row, pair, beginning) == ""


def test_a_completion_of_a_pair_is_tokenized_as_the_same_row_of_messages(tokenizer):
    row, alone = made(PAIR, tokenizer), made(Example(PAIR.prompt, PAIR.chosen), tokenizer)
    assert row.prompt + row.chosen == alone.ids


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: {"chosen": row.chosen[:-1]}, "chosen: the terminator is not supervised"),
        (lambda row: {"rejected": row.rejected[:-1]}, "rejected: the terminator is not supervised"),
        (lambda row: {"chosen": []}, "chosen: no token is supervised"),
        (lambda row: {"chosen": row.rejected, "rejected": row.chosen}, "chosen: the supervised text is 'billing'"),
        (lambda row: {"rejected": row.chosen}, "chosen and rejected are the same tokens"),
        (lambda row: {"prompt": row.prompt[1:]}, "chosen: at token 0 the row differs from the prompt"),
        (lambda row: {"prompt": []}, "the prompt has no token"),
        (
            lambda row: {"prompt": row.prompt[:-1], "chosen": row.prompt[-1:] + row.chosen,
                         "rejected": row.prompt[-1:] + row.rejected},
            "chosen: 1 tokens of the prompt are supervised / chosen: the supervised text is",
        ),
    ],
    ids=["no end", "no end of the worse", "empty", "turned round", "equal", "prompt cut", "no prompt", "cut too early"],
)  # fmt: skip
def test_a_wrong_pair_is_caught(tokenizer, change, says):
    row = made(PAIR, tokenizer)
    assert says in found(changed(row, **change(row)), PAIR, tokenizer)


def test_a_prompt_that_is_not_common_to_both_is_caught(tokenizer, monkeypatch):
    """As of a template that says in its first line how long the conversation is."""
    render = type(tokenizer).render

    def telling(self, messages, *, generation_prompt):
        last = messages[-1]["content"] if messages[-1]["role"] == "assistant" else "repair"
        return f"{last[0]}:{render(self, messages, generation_prompt=generation_prompt)}"

    monkeypatch.setattr(type(tokenizer), "render", telling)
    said = found(made(PAIR, tokenizer), PAIR, tokenizer)
    assert "tokens of the prompt are supervised" in said
    assert "rejected: at token 0 the row differs from the prompt that generation will start from" in said


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (Preference(ASKED, [assistant("repair")], [assistant("repair")]), "there is nothing to prefer"),
        (Preference(ASKED, [assistant("repair")], [assistant(" ")]), "rejected: it is empty"),
        (Preference(ASKED, [], [assistant("repair")]), "chosen: it is empty"),
        (Preference(ASKED, [assistant("a"), user("b"), assistant("c")], [assistant("d")]), "chosen: it has 3 messages"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_refused(tokenizer, pair, says):
    assert says in found(made(pair, tokenizer), pair, tokenizer)


def test_the_limit_is_of_what_is_read_at_once_the_prompt_and_one_completion(tokenizer):
    row = made(PAIR, tokenizer)
    longer = len(row.prompt) + len(row.rejected)
    assert length(row) == longer > len(row.prompt) + len(row.chosen)
    assert found(row, PAIR, tokenizer, longer) == ""
    assert found(row, PAIR, tokenizer, longer - 1).startswith(f"rejected: {longer} tokens, over `max_length`")
    with pytest.raises(MaskViolation, match=f"set `trainer.max_length: {longer}`"):
        prove([row], [PAIR], tokenizer, longer - 1)


def test_feedback_is_a_completion_and_its_label(tokenizer):
    row = made(JUDGED, tokenizer)
    assert row == FeedbackRow("1", "train.csv:17", prompt_ids(ASKED, tokenizer), [*map(ord, "billing"), 3], False)
    assert found(row, JUDGED, tokenizer) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: {"label": True}, "its label is True, the example's is False"),
        (lambda row: {"completion": row.completion[:-1]}, "the terminator is not supervised"),
        (lambda row: {"completion": row.completion[1:]}, "the supervised text is 'illing'"),
        (lambda row: {"prompt": row.prompt[1:]}, "differs from the prompt"),
    ],
)
def test_a_wrong_feedback_is_caught(tokenizer, change, says):
    row = made(JUDGED, tokenizer)
    assert says in found(changed(row, **change(row)), JUDGED, tokenizer)


def test_a_row_of_another_kind_than_its_example_is_a_defect(tokenizer):
    with pytest.raises(TypeError, match="PairRow is not made of a Feedback"):
        found(made(PAIR, tokenizer), JUDGED, tokenizer)


# --- what a person sees


def test_a_pair_is_shown_a_line_each_completion(tokenizer):
    shown = view(made(PAIR, tokenizer), tokenizer).splitlines()
    assert [line.split(":")[0].strip() for line in shown] == ["chosen", "rejected"]
    assert "⟦r⟧|⟦e⟧|⟦p⟧" in shown[0] and "⟦b⟧|⟦i⟧|⟦l⟧" in shown[1]
    assert list(sequences(made(PAIR, tokenizer))) == ["chosen", "rejected"]


def test_feedback_is_shown_with_its_label(tokenizer):
    assert view(made(JUDGED, tokenizer), tokenizer).startswith("unwanted: ")
    assert view(made(JUDGED._replace(label=True), tokenizer), tokenizer).startswith("wanted: ")


def test_the_error_names_each_bad_row_of_a_mixed_bag(tokenizer):
    rows = [made(one, tokenizer) for one in (ALL, PAIR, JUDGED)]
    bad = changed(rows[1], rejected=rows[1].chosen)
    with pytest.raises(MaskViolation, match=r"1 of 3 rows[^/]*train\.csv:17: rejected: the supervised text"):
        prove([rows[0], bad, rows[2]], [ALL, PAIR, JUDGED], tokenizer, 100)
