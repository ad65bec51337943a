"""Sentences about scores: the form of an answer, one answer to everything, the price of a gain; and how it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TIED, Graded, Item, mean_of
from tunewright.parts.gate import Score
from tunewright.pipeline.answers import habits, notable
from tunewright.pipeline.confusion import MOST_IN_A_MATRIX, classes, label_like, labelled
from tunewright.pipeline.readings import Answered, Shown, readings
from tunewright.stats.paired import compare
from tunewright_basics.perplexity import perplexity


class Asking:
    """An evaluation as far as a reading looks at it."""

    def __init__(self, name="heldout", metric="exact_match", asks=True):
        self.name, self.metric, self.asks = name, metric, asks

    def label(self, item, text):
        return text.strip()

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


def test_a_set_whose_references_are_all_one_word_is_uninformative_however_well_it_is_answered():
    references = ["yes"] * 60
    base, tuned = side(references, ["maybe"] * 60), side(references, references)
    assert readings({}, [], [Answered(Asking(), base, tuned)], 0) == [
        "heldout.exact_match is uninformative: all 60 references are `yes`, so that one answer to everything gives "
        "100.0 %, tuned 100.0 %"
    ]
    texts = ["a text that is\nno label"] * 60
    assert readings({}, [], [Answered(Asking(), side(texts, ["?"] * 60), side(texts, texts))], 0) == []


def test_ties_do_not_hide_the_metric_of_right_and_wrong():
    references = ["yes"] * 40 + ["no"] * 20
    lazy = [
        one(place, reference, "yes", "accuracy", grade=0.5 if place < 4 else None, stopped="given", tied=place < 4)
        for place, reference in enumerate(references)
    ]
    items = [Graded(_with_choices(g.item), g.answer, g.grades) for g in lazy]
    found = [Answered(Asking("pick", "accuracy", asks=False), items, items)]
    assert "pick.accuracy is uninformative" in readings({}, [], found, 0)[0]


def _with_choices(item, *choices):
    return Item(item.id, item.origin, item.prompt, item.reference, choices=choices or ("no", "yes"))


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


def surprised(nats):
    """Three documents of ten tokens, as `perplexity` grades them."""
    return [
        one(place, "text", "text", grade=0.0, stopped="given", nll=value, tokens=10.0)
        for place, value in enumerate(nats)
    ]


@pytest.mark.parametrize(("items", "told"), [(3, False), (5, False), (6, True)])
@pytest.mark.parametrize("worse", [True, False])
def test_what_a_few_items_have_in_common_is_no_finding(items, told, worse):
    # Of three documents that all got a little worse the interval leaves out 0, and chance does it in 2 of 8 runs.
    before, after = surprised([20.0] * items), surprised([20.4 + 0.1 * place for place in range(items)])
    sides = (before, after) if worse else (after, before)
    score = compare(*sides, "perplexity", perplexity, seed=0, lower_is_better=True)
    assert score.ci95[0] > 0 if worse else score.ci95[1] < 0
    assert score.p_value == pytest.approx(2 / 2**items)
    said = readings({"news.perplexity": score}, [], [], 0)
    assert bool(said) is (told and worse)
    shown = [Shown(5, {"own.share": share(0.0, 0.4, 0.2, 0.6)})]
    assert (
        bool(readings({"own.share": replace(share(0.0, 0.9, 0.8, 1.0), p_value=score.p_value)}, shown, [], 0)) is told
    )


def test_examples_that_may_have_helped_prove_neither():
    few = replace(share(0.0, 0.5, 0.05, 0.9), p_value=0.0625)  # 5 of 10 items won, none lost
    shown = [Shown(5, {"own.share": few})]
    assert readings({"own.share": share(0.0, 1.0, 0.7, 1.0)}, shown, [], 0) == []


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


def classes_of(base, tuned, evaluator=None):
    """What is told of the one task that is graded by label; None where none is."""
    found = [classes(task) for task in labelled(evaluator or Asking(), base, tuned)]
    assert len(found) <= 1
    return found[0] if found else None


def graded(references, answers):
    """As `side`, with white space around an answer left aside."""
    rights = [float(answer.strip() == reference) for reference, answer in zip(references, answers, strict=True)]
    return [one(place, *both, grade=right)
            for place, (*both, right) in enumerate(zip(references, answers, rights, strict=True))]  # fmt: skip


def test_classes_are_measured_by_hand():
    references = ["a", "a", "a", "b", "b", "c"]
    base, tuned = graded(references, ["x"] * 6), graded(references, ["a", " a ", "b", "b", "what", "a"])
    found = classes_of(base, tuned)
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
    found = classes_of(side(references, references), side(references, answers))
    assert found is not None
    assert found["matrix"] == []
    assert found["confused"] == [["l00", "l05", 2], ["l01", None, 1]]
    assert len(found["labels"]) == len(labels)


def test_a_choice_that_is_no_reference_is_a_label_where_it_was_answered():
    answers = ["yes", "maybe", "no", "no"]
    items = [Graded(_with_choices(g.item, "yes", "no", "maybe", "never"), g.answer, g.grades)
             for g in side(["yes", "yes", "no", "no"], answers)]  # fmt: skip
    found = classes_of(items, items)
    assert [label["label"] for label in found["labels"]] == ["maybe", "no", "yes"]
    assert found["labels"][0]["tuned"] == {"count": 0, "precision": 0.0, "recall": None, "f1": 0.0}
    assert found["matrix"] == [[0, 0, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0]]


def told_of(answers):
    """The sentences where base and tuned answer alike."""
    return readings({"heldout.exact_match": scored(answers, answers)}, [], [Answered(Asking(), answers, answers)], 0)


def of_task(task, some, **grades):
    """The same items, as those of a task, with further grades."""
    return [
        Graded(replace(g.item, id=f"{task} {g.item.id}", task=task), g.answer, {**g.grades, **grades}) for g in some
    ]


class Several(Asking):
    """An evaluation of several tasks, each with a grade of its own."""

    def summaries(self):
        return {metric: mean_of(metric) for metric in ("score", "topic", "decline")}


def several():
    """Twelve items of labels, all answered alike, and twelve requests to be declined or met, all rightly."""
    topics, requests = ["law"] * 8 + ["art"] * 4, ["refuse", "answer"] * 6
    lazy = of_task("topic", [
        Graded(g.item, g.answer, {"score": g.grades["exact_match"], "topic": g.grades["exact_match"]})
        for g in side(topics, ["law"] * 12)
    ])  # fmt: skip
    met = of_task("decline", [
        Graded(g.item, g.answer, {"score": 1.0, "decline": 1.0}) for g in side(requests, ["I cannot.", "Press it."] * 6)
    ])  # fmt: skip
    return [*lazy, *met]


def test_each_task_is_told_by_itself_and_only_what_is_graded_by_label():
    found = {task.name: classes(task) for task in labelled(Several(), several(), several())}
    assert list(found) == ["heldout.topic"]
    assert [label["label"] for label in found["heldout.topic"]["labels"]] == ["art", "law"]


def test_one_answer_to_everything_makes_a_task_uninformative():
    (said,) = readings({}, [], [Answered(Several(), several(), several())], 0)
    assert said.startswith("heldout.topic is uninformative: the majority class `law` gives 66.7 %, tuned 66.7 % (12 ")


def test_a_metric_of_several_tasks_is_told_with_the_task():
    some = [
        one for task, label in (("first", "yes"), ("second", "no"))
        for one in of_task(task, side(["yes", "no", "yes", "no"], [label] * 4))
    ]  # fmt: skip
    said = told_of(some)
    assert [sentence.partition(" is ")[0] for sentence in said] == [
        "heldout.exact_match on the task `first`", "heldout.exact_match on the task `second`",
    ]  # fmt: skip


def test_of_many_uninformative_tasks_the_first_are_named():
    some = [one for n in range(11) for one in of_task(f"t{n}", side(["yes", "no"] * 2, ["yes"] * 4))]
    (said,) = told_of(some)
    assert said.startswith("11 of 11 tasks of heldout are uninformative")
    assert "task `t7` and 3 more" in said


def test_letters_of_choices_that_are_each_items_own_are_no_labels():
    items = [Graded(_with_choices(g.item, "A", "B"), g.answer, g.grades) for g in side(["A", "B"] * 6, ["A"] * 12)]
    assert classes_of(items, items) is None
    (said,) = told_of(items)
    assert "uninformative: the majority class `A` gives 50.0 %" in said


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
    assert (classes_of(side(references, references), side(references, references)) is not None) is are


def test_answers_that_are_graded_by_what_they_contain_have_no_labels():
    answers = side(["yes", "no"] * 6, ["it is yes", "it is no"] * 6, grade=1.0)
    assert classes_of(answers, answers) is None


def test_tasks_without_a_score_of_their_own_are_held_against_the_whole():
    def with_tasks(graded):
        return [Graded(replace(g.item, task=f"t{place % 2}"), g.answer, g.grades) for place, g in enumerate(graded)]

    base, after = side(REFERENCES, ["?"] * 60), side(REFERENCES, REFERENCES)
    picks = with_tasks(side(REFERENCES, REFERENCES, metric="accuracy", stopped="given"))
    found = [Answered(Asking(), base, after), Answered(Asking("pick", "accuracy", asks=False), picks, picks)]
    (said,) = readings({"heldout.exact_match": scored(base, after)}, [], found, 0)
    assert "finds 100.0 % where it only has to choose (pick.accuracy; always `no`: 50.0 %)" in said
