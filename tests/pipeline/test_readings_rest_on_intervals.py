"""Sentences about scores: the form of an answer, one answer to everything, the price of a gain; and how it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TIED, Graded, Item, mean_of
from tunewright.parts.gate import Score
from tunewright.pipeline.answers import habits, notable
from tunewright.pipeline.confusion import MOST_IN_A_MATRIX, classes, label_like
from tunewright.pipeline.readings import Answered, Shown, readings
from tunewright.stats.paired import compare


class Asking:
    """An evaluation as far as a reading looks at it."""

    def __init__(self, name="heldout", metric="exact_match", asks=True):
        self.name, self.metric, self.asks = name, metric, asks

    def summaries(self):
        return {self.metric: mean_of(self.metric)}


def one(place, reference, answer, metric="exact_match", grade=None, stopped="terminator", **grades):
    right = float(reference == answer) if grade is None else grade
    completion = Completion([1, 2, 3], answer, stopped, [1])
    return Graded(Item(f"i{place}", f"t.csv:{place}", [], reference), completion, {metric: right, **grades})


def side(references, answers, **more):
    return [one(place, *both, **more) for place, both in enumerate(zip(references, answers, strict=True))]


REFERENCES = ["yes", "no"] * 30


def scored(base, tuned, metric="exact_match"):
    return compare(base, tuned, metric, mean_of(metric), seed=0)


def share(base, tuned, low, high, **more):
    return Score(60, base, tuned, tuned - base, (low, high), 0.01, **more)


def of_examples(base, tuned, low, high, count=5, gained=(0.0, 0.91, 0.85, 0.96)):
    shown = Shown(count, {"heldout.exact_match": share(base, tuned, low, high)})
    return readings({"heldout.exact_match": share(*gained)}, [shown], [], 0)


def test_a_base_that_examples_help_lacked_the_form_of_the_answer():
    assert of_examples(0.0, 0.41, 0.3, 0.52) == [
        "the base has 0.0 % of heldout.exact_match, and 41.0 % with 5 examples: much of the gain is the form of the "
        "answer"
    ]
    assert "with 1 example:" in of_examples(0.0, 0.41, 0.3, 0.52, count=1)[0]


def test_a_base_that_no_example_helps_lacks_more_than_the_form():
    assert of_examples(0.0, 0.02, -0.01, 0.05) == [
        "the base has 0.0 % of heldout.exact_match, and 2.0 % with 5 examples: it does not merely miss the form of the "
        "answer"
    ]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (of_examples(0.3, 0.4, -0.02, 0.2), "the interval has no difference in it, and the base is not near 0"),
        (of_examples(0.1, 0.6, -0.05, 0.9), "much, and nothing that chance does not explain"),
        (of_examples(0.0, 0.1, 0.02, 0.2), "a ninth of the gain is not much of it"),
        (of_examples(0.0, 0.41, 0.3, 0.52, gained=(0.0, 0.0, -0.1, 0.1)), "there is no gain"),
    ],
)
def test_where_examples_prove_nothing_nothing_is_said(found, why):
    assert found == [], why


def choosing(picked, shown=()):
    """A base that writes nothing right and picks as given; tuned writes all right."""
    base, after = side(REFERENCES, ["I think so"] * 60), side(REFERENCES, REFERENCES)
    picks = side(REFERENCES, picked, metric="accuracy", stopped="given")
    found = [
        Answered(Asking(), base, after),
        Answered(Asking("pick", "accuracy", asks=False), picks, side(REFERENCES, REFERENCES, metric="accuracy")),
    ]
    return readings({"heldout.exact_match": scored(base, after)}, shown, found, 0)


def test_a_base_that_finds_the_answer_among_given_ones_lacked_the_form():
    assert choosing(["yes", "no"] * 28 + ["no", "yes"] * 2) == [
        "the base has 0.0 % of heldout.exact_match, and finds 93.3 % where it only has to choose (pick.accuracy; "
        "always `no`: 50.0 %): much of the gain is the form of the answer"
    ]


def test_a_base_that_chooses_no_better_than_one_answer_lacks_more_than_the_form():
    found = choosing(["yes"] * 60)  # half of them right, as any one answer is
    assert len(found) == 1
    assert found[0].endswith("always `no`: 50.0 %): it does not merely miss the form of the answer")


def test_one_proof_that_it_is_the_form_silences_what_does_not_find_it():
    unhelped = Shown(5, {"heldout.exact_match": share(0.0, 0.02, -0.01, 0.05)})
    finds = choosing(["yes", "no"] * 30, [unhelped])
    assert [sentence.rpartition(": ")[2] for sentence in finds] == ["much of the gain is the form of the answer"]
    neither = choosing(["yes"] * 60, [unhelped])
    assert [sentence.rpartition(": ")[2] for sentence in neither] == [
        "it does not merely miss the form of the answer"
    ] * 2


def test_other_questions_are_not_compared():
    base, after = side(REFERENCES, ["?"] * 60), side(REFERENCES, REFERENCES)
    others = side(REFERENCES[::-1], REFERENCES[::-1], metric="accuracy", stopped="given")
    found = [Answered(Asking(), base, after), Answered(Asking("pick", "accuracy", asks=False), others, others)]
    assert readings({"heldout.exact_match": scored(base, after)}, [], found, 0) == []


def test_one_answer_to_everything_makes_a_set_uninformative():
    references = ["yes"] * 40 + ["no"] * 20
    base, lazy = side(references, ["?"] * 60), side(references, ["yes"] * 60)
    scores = {"heldout.exact_match": scored(base, lazy)}
    (said,) = readings(scores, [], [Answered(Asking(), base, lazy)], 0)
    assert said.startswith("heldout.exact_match is uninformative: the majority class `yes` gives 66.7 %, tuned 66.7 %")
    assert readings(scores, [], [Answered(Asking(), base, side(references, references))], 0) == []


def test_ties_do_not_hide_the_metric_of_right_and_wrong():
    references = ["yes"] * 40 + ["no"] * 20
    lazy = [
        one(place, reference, "yes", "accuracy", grade=0.5 if place < 4 else None, stopped="given", tied=place < 4)
        for place, reference in enumerate(references)
    ]
    items = [Graded(_with_choices(g.item), g.answer, g.grades) for g in lazy]
    found = [Answered(Asking("pick", "accuracy", asks=False), items, items)]
    assert "pick.accuracy is uninformative" in readings({}, [], found, 0)[0]


def _with_choices(item):
    return Item(item.id, item.origin, item.prompt, item.reference, choices=("no", "yes"))


def test_a_score_that_fell_beyond_chance_is_the_price_of_one_that_rose():
    fell, rose = share(0.62, 0.579, -0.072, -0.01), share(0.0, 0.9, 0.8, 1.0)
    assert readings({"general.score": fell, "own.score": rose}, [], [], 0) == [
        "general.score fell by 4.1 points (95 % 1.0 to 7.2): the price of the gain"
    ]
    assert readings({"general.score": fell}, [], [], 0) == ["general.score fell by 4.1 points (95 % 1.0 to 7.2)"]
    assert readings({"general.score": share(0.62, 0.579, -0.1, 0.01)}, [], [], 0) == []


def test_a_score_of_which_less_is_better_gets_worse_by_rising():
    rose = share(12.0, 14.5, 1.5, 3.5, lower_is_better=True)
    assert readings({"news.perplexity": rose}, [], [], 0) == [
        "news.perplexity rose by 2.5 (95 % 1.5 to 3.5), where less is better"
    ]
    assert readings({"news.perplexity": share(14.5, 12.0, -3.5, -1.5, lower_is_better=True)}, [], [], 0) == []


def test_habits_count_what_was_said_and_not_what_was_given():
    said = [
        one(0, "yes", "I'm sorry, but I can't help with that."),
        one(1, "yes", "yes"),
        one(2, "yes", "well, that depends on", stopped="limit"),
        one(3, "yes", "no", stopped="given", **{TIED: 1.0}),
    ]
    assert habits(said) == {
        "items": 4, "said": 3, "tokens": pytest.approx((2 + 2 + 3) / 3), "cut": 1, "refusals": 1, "ties": 1,
    }  # fmt: skip
    assert habits(said[3:])["tokens"] is None
    assert habits([])["items"] == 0


def test_only_what_is_notable_is_told():
    plain = {"items": 60, "said": 60, "tokens": 3.0, "cut": 0, "refusals": 0, "ties": 0}
    assert notable({"a": {"base": plain, "tuned": {**plain, "tokens": 4.5}}}) == []
    assert notable({"a": {"base": plain, "tuned": {**plain, "tokens": 4.6}}}) == [
        "a: mean length 3.0 tokens before and 4.6 after"
    ]
    assert notable({"a": {"base": {**plain, "cut": 2, "refusals": 1}, "tuned": plain}}) == [
        "a: cut by the token limit 2 (base) and 0 (tuned) of 60, declined 1 before and 0 after"
    ]
    assert notable({"a": {"base": plain, "tuned": {**plain, "tokens": None, "ties": 3}}}) == [
        "a: tied 0 (base) and 3 (tuned) of 60"
    ]


def test_classes_are_measured_by_hand():
    references = ["a", "a", "a", "b", "b", "c"]
    base, tuned = side(references, ["x"] * 6), side(references, ["a", " a ", "b", "b", "what", "a"])
    found = classes(base, tuned)
    assert found is not None
    assert found["matrix"] == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert found["confused"] == []
    by_label = {label["label"]: label for label in found["labels"]}
    assert by_label["a"]["tuned"] == {"count": 3, "precision": 2 / 3, "recall": 2 / 3, "f1": 4 / 6}
    assert by_label["b"]["tuned"] == {"count": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert by_label["c"]["tuned"] == {"count": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert by_label["a"]["base"] == {"count": 3, "precision": None, "recall": 0.0, "f1": 0.0}


def test_of_many_labels_the_commonest_mistakes_are_told():
    labels = [f"l{n:02}" for n in range(MOST_IN_A_MATRIX + 1)]
    references = labels * 2
    answers = ["l05", *labels[1:], "l05", "nothing", *labels[2:]]
    found = classes(side(references, references), side(references, answers))
    assert found is not None
    assert found["matrix"] == []
    assert found["confused"] == [["l00", "l05", 2], ["l01", None, 1]]
    assert len(found["labels"]) == len(labels)


@pytest.mark.parametrize(
    ("references", "are"),
    [
        (["a", "b"] * 2, True),
        (["a", "b", "c"], False),  # each once
        (["a"] * 9, False),  # one label tells nothing
        (["a", "b\nc"] * 5, False),
        (["a", "b" * 61] * 5, False),
        (["a", ""] * 5, False),
    ],
)
def test_what_labels_are(references, are):
    assert label_like(side(references, references)) is are
    assert (classes(side(references, references), side(references, references)) is not None) is are


def test_tasks_without_a_score_of_their_own_are_held_against_the_whole():
    def with_tasks(graded):
        return [Graded(replace(g.item, task=f"t{place % 2}"), g.answer, g.grades) for place, g in enumerate(graded)]

    base, after = side(REFERENCES, ["?"] * 60), side(REFERENCES, REFERENCES)
    picks = with_tasks(side(REFERENCES, REFERENCES, metric="accuracy", stopped="given"))
    found = [Answered(Asking(), base, after), Answered(Asking("pick", "accuracy", asks=False), picks, picks)]
    (said,) = readings({"heldout.exact_match": scored(base, after)}, [], found, 0)
    assert "finds 100.0 % where it only has to choose (pick.accuracy; always `no`: 50.0 %)" in said
