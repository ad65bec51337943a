"""Perplexity is what a textbook says it is, over exactly the tokens that training would supervise."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tiny import backend, tiny_folder  # noqa: F401
from tunewright.data.mask import IGNORED, tokenize
from tunewright.digest import canonical_json
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts.engine import Completion, Served
from tunewright.parts.evaluator import Graded, Item
from tunewright.parts.evaluator import TestRow as Row
from tunewright.parts.prompt_format import Example, Preference
from tunewright.stats.paired import compare
from tunewright.testing import check_evaluator
from tunewright.testing.invented import Letters
from tunewright_basics.perplexity import Perplexity, PerplexityOptions


class Bare(Letters):
    """Nothing stands before a text."""

    begin = ()


@dataclass
class Scorer:
    """Finds each token as likely as `of` says: a number, or by token."""

    of: float | dict[int, float]
    tokenizer: Letters = field(default_factory=Letters)
    seen: list = field(default_factory=list)

    def score(self, rows, progress=None, *, together=True):
        self.seen += rows
        for done in range(len(rows)):
            progress(done + 1)
        return [[math.log(self.of if isinstance(self.of, float) else self.of[t]) for t in row.answer] for row in rows]


def text(content, name="a"):
    return Row(name, f"t.txt:{name}", Example("", content))


def chat(*turns, name="a", learnt=1):
    roles = ["user", "assistant"] * len(turns)
    said = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return Row(name, f"t.csv:{name}", Example(said[:-learnt], said[-learnt:]))


def measured(rows, of=0.25, tokenizer=None, **options):
    scorer = Scorer(of, tokenizer or Letters())
    evaluator = Perplexity(PerplexityOptions(**options))
    return evaluator.measure(scorer, rows, lambda done, total: None), scorer


def summary(graded, metric="perplexity"):
    return Perplexity(PerplexityOptions()).summaries()[metric](graded)


def test_a_model_that_chooses_among_four_has_a_perplexity_of_four_however_long_the_texts():
    graded, _ = measured([text("abc"), text("x" * 900, "b"), chat("hi", "you", name="c")])
    assert summary(graded) == pytest.approx(4)
    assert summary(graded, "nll") == pytest.approx(math.log(4))


def test_a_long_text_counts_as_long_as_it_is():
    likely = {ord("a"): 0.5, ord("b"): 0.01, Letters.end: 0.5}
    graded, _ = measured([text("a" * 97), text("b", "b")], likely)
    nats = 98 * math.log(2) + math.log(100) + math.log(2)
    assert summary(graded) == pytest.approx(math.exp(nats / 100))
    assert [one.grades["tokens"] for one in graded] == [98, 2]


@given(st.integers(1, 300), st.integers(2, 40), st.booleans())
def test_each_token_is_scored_once_in_windows_that_fit_each_after_the_token_before(length, window, begins):
    content = "".join(chr(97 + place % 26) for place in range(length))
    tokenizer = Letters() if begins else Bare()
    (graded,), scorer = measured([text(content)], tokenizer=tokenizer, max_length=window)
    ids = tokenize("a", "t.txt:a", Example("", content), tokenizer).ids
    assert [token for row in scorer.seen for token in row.answer] == ids[1:] == graded.answer.ids
    place = 0
    for row in scorer.seen:
        assert len(row.prompt) + len(row.answer) <= window or len(scorer.seen) == 1
        assert row.prompt == ids[place : place + 1]
        place += len(row.answer)
    assert graded.grades["windows"] == len(scorer.seen) == math.ceil((len(ids) - 1) / (window - 1))


def test_of_a_conversation_what_training_would_supervise_is_scored_and_nothing_else():
    rows = [
        chat("where is it", "delivery"),
        chat("hi", "hello there", "where is it", "delivery", name="b", learnt=3),
        Row("c", "t.csv:c", Example("Q: 1+1 A:", " 2")),
    ]
    graded, scorer = measured(rows)
    for row, one in zip(rows, graded, strict=True):
        tokens = tokenize(row.id, row.origin, row.example, scorer.tokenizer)
        assert one.answer.ids == [label for label in tokens.labels[1:] if label != IGNORED]
        assert one.grades["tokens"] == len(one.answer.ids)
        assert one.answer.stopped == "given"
    both = [row for row in scorer.seen if row.origin == "t.csv:b"]
    assert [scorer.tokenizer.decode(row.answer, special=False) for row in both] == ["hello there", "delivery"]
    assert both[1].prompt[: len(both[0].prompt) + len(both[0].answer)] == both[0].prompt + both[0].answer


def test_a_row_with_a_prompt_is_never_cut():
    with pytest.raises(BadInput, match=r"t.csv:a: prompt and answer have \d+ tokens, `max_length` is 8") as error:
        measured([chat("where is it", "delivery")], max_length=8)
    assert "only plain texts are cut" in error.value.fix


def test_rows_of_another_kind_are_refused_before_a_model_is_loaded():
    row = Row("a", "t.csv:2", Preference("q", "good", "bad"))
    with pytest.raises(BadInput, match=r"t.csv:2: `perplexity` scores rows of kind text, .* made `Preference`"):
        list(Perplexity(PerplexityOptions()).items([row]))


def test_an_answer_that_training_could_not_learn_is_not_scored():
    class Endless(Letters):
        def render(self, messages, *, generation_prompt):
            return super().render(messages, generation_prompt=generation_prompt).replace(chr(self.end), "")

    with pytest.raises(BadInput, match=r"t.csv:a: it cannot be scored as it is: .*terminator"):
        measured([chat("hi", "you")], tokenizer=Endless())


def test_a_length_of_answers_that_are_never_made_is_refused():
    assert PerplexityOptions(max_new_tokens=32) == PerplexityOptions()  # as a lock writes every default
    with pytest.raises(ValidationError, match="generates nothing: leave `max_new_tokens` out"):
        PerplexityOptions(max_new_tokens=64)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        PerplexityOptions(max_length=1)


def test_a_perplexity_beyond_all_numbers_is_an_error_of_ours():
    answer = Completion([1], "x", "given", [1])
    graded = [Graded(Item("a", "t:1", "", "x"), answer, {"nll": 5000.0, "tokens": 2.0, "windows": 1.0})]
    with pytest.raises(WorkFailed, match="2,500 nats a token"):
        summary(graded)


def test_what_is_written_a_row_is_enough_to_compare_base_and_tuned():
    rows = [text("ab" * (3 + place), str(place)) for place in range(30)]
    likely = {ord("a"): 0.5, ord("b"): 0.1, Letters.end: 0.5}
    sides = []
    for of in (likely, {**likely, ord("b"): 0.2}):
        lines = [json.loads(canonical_json(asdict(one))) for one in measured(rows, of)[0]]
        sides.append([Graded(Item(**x["item"]), Completion(**x["answer"]), x["grades"]) for x in lines])
    found = {m: compare(*sides, m, s, seed=0) for m, s in Perplexity(PerplexityOptions()).summaries().items()}
    assert found["perplexity"].tuned < found["perplexity"].base
    assert found["perplexity"].ci95[1] < 0
    assert found["perplexity"].p_value < 0.01
    assert found["nll"].tuned == pytest.approx(math.log(found["perplexity"].tuned))
    assert Perplexity(PerplexityOptions()).lower_is_better() == set(found)


def test_it_is_the_exponential_of_the_librarys_loss(tiny_folder):  # noqa: F811
    import torch

    from tunewright_transformers.engine import TransformersEngine
    from tunewright_transformers.loader import TransformersLoader
    from tunewright_transformers.unquantized import NoQuantizer

    served = Served(tiny_folder(), backend(TransformersLoader), backend(NoQuantizer), "fp32")
    with backend(TransformersEngine).open(served) as subject:
        row = text("where is my parcel and when does it arrive")
        graded = backend(Perplexity).measure(subject, [row], lambda done, total: None)
        ids = torch.tensor([tokenize(row.id, row.origin, row.example, subject.tokenizer).ids])
        loss = subject.model(input_ids=ids, labels=ids).loss.item()
    assert summary(graded) == pytest.approx(math.exp(loss), rel=1e-5)


def test_it_keeps_its_contract(tmp_path):
    check_evaluator(Perplexity, folder=tmp_path)
