"""A choice is the likeliest of given answers, scored as training would see each; ties and calibration are told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from tunewright.errors import BadInput
from tunewright.parts import Facts
from tunewright.parts.evaluator import TIED
from tunewright.parts.evaluator import TestRow as Row
from tunewright.parts.prompt_format import Example
from tunewright.testing import check_evaluator
from tunewright.testing.invented import Letters
from tunewright_basics.choice import Choice, ChoiceOptions


@dataclass
class Scorer:
    """Finds each letter as likely as it is said to be, whatever stands before; the terminator is certain."""

    likely: dict[str, float]
    tokenizer: Letters = field(default_factory=Letters)
    seen: list = field(default_factory=list)
    calls: int = 0

    def score(self, rows, progress=None, *, together=True):
        self.seen += rows
        self.calls += 1
        for done in range(len(rows)):
            progress(done + 1)
        known = {Letters.end: 1.0} | {ord(letter): chance for letter, chance in self.likely.items()}
        return [[math.log(known[token]) for token in row.answer] for row in rows]


def row(answer, name="a", **fields):
    question = [{"role": "user", "content": "which?"}]
    return Row(name, f"t.csv:{name}", Example(question, [{"role": "assistant", "content": answer}]), fields=fields)


def measured(rows, scorer, **options):
    return Choice(ChoiceOptions(**options)).measure(scorer, rows, lambda done, total: None)


def test_the_likeliest_choice_is_the_answer():
    likely = {"y": 0.6, "n": 0.2, "m": 0.2}
    right, wrong = measured([row("y"), row("n", "b")], Scorer(likely), choices=["y", "n", "m"])
    assert right.answer.text == wrong.answer.text == "y"
    assert right.grades == pytest.approx(
        {"accuracy": 1, "probability": 0.6, "brier": 0.16 + 0.04 + 0.04, "confidence": 0.6, TIED: 0}
    )
    assert wrong.grades == pytest.approx(
        {"accuracy": 0, "probability": 0.2, "brier": 0.36 + 0.64 + 0.04, "confidence": 0.6, TIED: 0}
    )
    made = Choice(ChoiceOptions()).summaries()
    found = {metric: summary([right, wrong]) for metric, summary in made.items()}
    assert found == pytest.approx({"accuracy": 0.5, "probability": 0.4, "brier": 0.64, "ece": 0.1})


def test_of_equal_choices_each_is_right_in_its_share():
    grades = measured([row("y")], Scorer({"y": 0.4, "n": 0.4, "m": 0.2}), choices=["y", "n", "m"])[0].grades
    assert grades["accuracy"] == 0.5 and grades[TIED] == 1
    grades = measured([row("m")], Scorer({"y": 0.4, "n": 0.4, "m": 0.2}), choices=["y", "n", "m"])[0].grades
    assert grades["accuracy"] == 0 and grades[TIED] == 1


@pytest.mark.parametrize(("normalise", "expected"), [("none", "b"), ("tokens", "ggg"), ("bytes", "ggg")])
def test_a_long_choice_is_not_less_likely_for_being_long(normalise, expected):
    # log 0.5 = -0.69 for `b`; 3 log 0.7 = -1.07 for `ggg`, of 4 tokens with its terminator and of 3 bytes
    (found,) = measured([row("b")], Scorer({"g": 0.7, "b": 0.5}), choices=["b", "ggg"], normalise=normalise)
    assert found.answer.text == expected


def test_bytes_are_those_of_utf_8():
    # per byte `ü` has log 0.5 / 2, `uu` 2 log 0.65 / 2: per letter it would be the other way round
    (found,) = measured([row("ü")], Scorer({"ü": 0.5, "u": 0.65}), choices=["uu", "ü"], normalise="bytes")
    assert found.answer.text == "ü"


def test_choices_are_by_default_the_answers_of_the_rows():
    scorer = Scorer({"y": 0.5, "n": 0.3})
    found = measured([row("y"), row("n", "b"), row("y", "c")], scorer)
    assert {one.item.choices for one in found} == {("n", "y")}
    assert len(scorer.seen) == 6 and scorer.calls == 1


def test_each_row_may_have_choices_of_its_own():
    rows = [row("y", options=["y", "n"]), row("m", "b", options='["m", "n"]')]
    found = measured(rows, Scorer({"y": 0.5, "n": 0.3, "m": 0.2}), choices="{options}")
    assert [one.item.choices for one in found] == [("y", "n"), ("m", "n")]
    assert [one.grades["accuracy"] for one in found] == [1, 0]
    assert Choice(ChoiceOptions(choices="{options}")).columns() == {"options": "choices"}


def test_a_choice_stands_where_the_answer_would_with_its_terminator():
    scorer = Scorer({" ": 1.0, "y": 0.5, "n": 0.3})
    completion = Row("a", "t.csv:2", Example("which? →", " y"))
    measured([completion], scorer, choices=["y", "n"])
    encode = Letters().encode
    assert [one.answer for one in scorer.seen] == [[*encode(" y"), Letters.end], [*encode(" n"), Letters.end]]
    assert scorer.seen[0].prompt == [*Letters.begin, *encode("which? →")]


@pytest.mark.parametrize(
    ("rows", "choices", "says"),
    [
        ([row("z")], ["y", "n"], r"t.csv:a: the reference 'z' is none of the 2 choices 'y', 'n'"),
        ([row("y")], None, "one choice and no other"),
        ([row("y")], ["y", "n", "y "], "twice: 'y'"),
        ([row("y")], ["y", " "], "is empty"),
        ([row("y", options="y|n")], "{options}", "has no list of texts"),
    ],
)
def test_what_cannot_be_chosen_from_is_said(rows, choices, says):
    with pytest.raises(BadInput, match=says):
        list(Choice(ChoiceOptions(choices=choices)).items(rows))


@pytest.mark.parametrize(("choices", "says"), [("options", "is the text 'options'"), (["y"], "fewer than two")])
def test_what_names_no_choices_is_said_before_a_run(choices, says):
    (finding,) = Choice(ChoiceOptions(choices=choices)).check(Facts())
    assert says in finding.message and finding.field == "choices"


def test_it_keeps_its_contract(tmp_path):
    check_evaluator(Choice, folder=tmp_path)
