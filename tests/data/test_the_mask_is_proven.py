"""The proof catches every way in which the wrong tokens could be learnt, and names the row."""

from __future__ import annotations

import dataclasses

import pytest

from tunewright.data.mask import MaskViolation, prove, tokenize, view, violations
from tunewright.parts.prompt_format import Example

EXAMPLE = Example(
    [{"role": "system", "content": "Route."}, {"role": "user", "content": "lamp?"}],
    [{"role": "assistant", "content": "repair"}],
)


@pytest.fixture
def tokenizer(fakes):
    from tunewright_fakes import FakeTokenizer

    return FakeTokenizer()


@pytest.fixture
def row(tokenizer):
    return tokenize("1", "train.csv:17", EXAMPLE, tokenizer)


def found(row, tokenizer, limit=100):
    return " / ".join(violations(row, EXAMPLE, tokenizer, limit))


def test_exactly_the_answer_and_its_terminator_are_supervised(row, tokenizer):
    learnt = [label for label in row.labels if label != -100]
    assert tokenizer.decode(learnt, special=True) == "repair\x03"
    assert row.ids[-len(learnt) :] == learnt
    assert found(row, tokenizer) == ""


def changed(row, **values):
    return dataclasses.replace(row, **values)


def test_a_supervised_prompt_token_is_caught(row, tokenizer):
    start = row.labels.count(-100)
    labels = [*row.labels[: start - 1], row.ids[start - 1], *row.labels[start:]]
    assert "1 tokens of the prompt are supervised" in found(changed(row, labels=labels), tokenizer)


def test_an_answer_token_that_is_not_supervised_is_caught(row, tokenizer):
    start = row.labels.count(-100)
    labels = [*row.labels[:start], -100, *row.labels[start + 1 :]]
    assert "the first 1 tokens of the answer" in found(changed(row, labels=labels), tokenizer)


def test_a_missing_terminator_is_caught(row, tokenizer):
    assert "would not learn to stop" in found(changed(row, ids=row.ids[:-1], labels=row.labels[:-1]), tokenizer)


def test_an_unsupervised_terminator_is_caught(row, tokenizer):
    assert "not one run up to the end" in found(changed(row, labels=[*row.labels[:-1], -100]), tokenizer)


def test_a_row_with_nothing_supervised_is_caught(row, tokenizer):
    assert found(changed(row, labels=[-100] * len(row.ids)), tokenizer) == "no token is supervised"


def test_shifted_labels_are_caught(row, tokenizer):
    start = row.labels.count(-100)
    labels = [-100] * start + row.ids[start - 1 : -1]
    assert "a label differs from its token" in found(changed(row, labels=labels), tokenizer)


def test_an_answer_that_would_be_cut_is_caught(row, tokenizer):
    assert f"over `max_length` {len(row.ids) - 1}" in found(row, tokenizer, len(row.ids) - 1)


def test_a_prompt_that_generation_would_not_start_from_is_caught(row, tokenizer, monkeypatch):
    render = type(tokenizer).render

    def other(self, messages, *, generation_prompt):
        text = render(self, messages, generation_prompt=generation_prompt)
        return text.replace("lamp", "Lamp") if generation_prompt else text

    monkeypatch.setattr(type(tokenizer), "render", other)
    assert "differs from the prompt that generation will start from" in found(row, tokenizer)


def test_an_answer_that_holds_the_terminator_is_caught(tokenizer):
    example = Example(EXAMPLE.prompt, [{"role": "assistant", "content": "re\x03pair"}])
    row = tokenize("1", "train.csv:17", example, tokenizer)
    assert "the answer is" in " / ".join(violations(row, example, tokenizer, 100))


def test_the_error_names_the_row_and_shows_its_tokens(row, tokenizer):
    bad = changed(row, labels=[-100] * len(row.ids))
    with pytest.raises(MaskViolation) as caught:
        prove([row, bad], [EXAMPLE, EXAMPLE], tokenizer, 100)
    assert "1 of 2 rows" in str(caught.value)
    assert "train.csv:17: no token is supervised" in str(caught.value)


def test_supervised_tokens_are_marked_in_the_view(row, tokenizer):
    assert "⟦r⟧|⟦e⟧|⟦p⟧|⟦a⟧|⟦i⟧|⟦r⟧|⟦\x03⟧" in view(row, tokenizer)
    assert "⟦l⟧" not in view(row, tokenizer)


def test_a_row_beyond_what_the_base_takes_is_refused_by_its_place(tmp_path):
    from tunewright.errors import BadInput
    from tunewright.parts.trainer import TokenRow
    from tunewright.pipeline.tasks.prepare import _refuse_beyond

    (tmp_path / "config.json").write_text('{"max_position_embeddings": 3}')
    fits, over = (TokenRow("r", f"train.csv:{n}", [1] * n, [1] * n) for n in (3, 4))
    _refuse_beyond(tmp_path, [fits])
    with pytest.raises(BadInput, match=r"train\.csv:4: 4 tokens, the base takes 3"):
        _refuse_beyond(tmp_path, [fits, over])
