"""A suite's labels and letters are scored too, so that a task at 0 % is told apart: unable, or no label was written."""

from __future__ import annotations

import math

import pytest

from tunewright.data.mask import prompt_ids
from tunewright.parts import Facts
from tunewright.parts.base import SpecPath
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TIED, Graded
from tunewright.pipeline.readings import Answered, readings
from tunewright.stats.paired import compare_all
from tunewright.testing.invented import Letters
from tunewright_suites.choice import SuiteChoice, SuiteChoiceOptions
from tunewright_suites.evaluator import SuiteEvaluator, SuiteOptions
from tunewright_suites.files import installed


class Scorer:
    """Finds the text that `likes` names for a prompt likely, and no other; a text's length does not count."""

    def __init__(self, likes):
        self.likes, self.tokenizer, self.seen = likes, Letters(), []

    def score(self, rows, progress=None, *, together=True):
        self.seen += rows
        found = []
        for row in rows:
            wanted = self.tokenizer.decode(row.answer, special=False) in self.likes(row.origin)
            found.append([math.log(0.8 if wanted else 0.1), *[0.0] * (len(row.answer) - 1)])
            progress(len(found))
        return found


def chooser(suite="support", **options):
    return SuiteChoice(SuiteChoiceOptions(suite=suite, **options))


def measured(evaluator, likes):
    return evaluator.measure(Scorer(likes), [], lambda done, of: None)


def knows(items, *tasks):
    """By origin, the reference of an item of these tasks, else the first choice."""
    known = {item.origin: item.reference if item.task in tasks else item.choices[0] for item in items}
    return lambda origin: [known[origin]]


@pytest.mark.parametrize("suite", installed())
def test_every_item_with_labels_or_letters_is_asked_and_no_other(suite):
    whole = list(SuiteEvaluator(SuiteOptions(name=suite)).items([]))
    evaluator = chooser(suite)
    items = list(evaluator.items([]))
    assert items == [item for item in whole if item.choices] and items
    assert set(evaluator.summaries()) == {"accuracy", *(item.task for item in items)}


def test_the_likeliest_label_counts_for_its_task():
    evaluator = chooser()
    items = list(evaluator.items([]))
    graded = measured(evaluator, knows(items, "routing"))
    scores = {metric: summary(graded) for metric, summary in evaluator.summaries().items()}
    steps = [item.reference == "A" for item in items if item.task == "next_step"]
    assert scores["routing"] == 1 and scores["next_step"] == sum(steps) / len(steps) < 0.5
    assert scores["accuracy"] == (len(items) - len(steps) + sum(steps)) / len(items)
    first = next(one for one in graded if one.item.task == "routing")
    assert (first.item.task, first.answer.text, first.answer.stopped) == ("routing", first.item.reference, "given")
    assert first.grades == pytest.approx(
        {"accuracy": 1, "routing": 1, "probability": 0.8 / 1.3, "confidence": 0.8 / 1.3, TIED: 0}
    )


def test_labels_are_scored_after_the_very_prompt_that_the_suite_asks():
    evaluator = chooser()
    scorer = Scorer(lambda origin: [])
    graded = evaluator.measure(scorer, [], lambda done, of: None)
    (first, *_), items = scorer.seen, [one.item for one in graded]
    assert first.prompt == prompt_ids(items[0].prompt, scorer.tokenizer)
    assert len(scorer.seen) == sum(len(item.choices) for item in items)
    assert {one.grades[TIED] for one in graded} == {1.0}
    assert {one.item.task: one.grades["accuracy"] for one in graded} == pytest.approx(
        {"routing": 1 / 6, "next_step": 1 / 4}
    )


def answered(evaluator, *says):
    """The suite with the answers of both sides, each of which says something of an item."""
    sides = []
    for say in says:
        graded = [(item, Completion([1], say(item), "terminator", [1])) for item in evaluator.items([])]
        sides.append([Graded(item, answer, evaluator.grade(item, answer)) for item, answer in graded])
    return Answered(evaluator, *sides)


def told(*tasks, tuned=lambda item: item.reference):
    """What is read of a base that writes no label, and chooses right in these tasks alone; by the task's score."""
    suite, choice = SuiteEvaluator(SuiteOptions(name="support")), chooser()
    items = list(choice.items([]))
    both = [
        answered(suite, lambda item: "Thank you for your message!", tuned),
        Answered(choice, measured(choice, knows(items, *tasks)), measured(choice, knows(items))),
    ]
    scores = {
        f"{one.evaluator.name}.{metric}": score
        for one in both
        for metric, score in compare_all(one.evaluator, one.base, one.tuned, seed=0)
    }
    found = readings(scores, [], both, 0)
    return {task: line for line in found for task in ("routing", "next_step") if f"% of support.{task}," in line}


def test_a_task_at_nothing_is_told_apart_by_its_own_labels():
    found = told("routing")
    assert found["routing"] == (
        "the base has 0.0 % of support.routing, and finds 100.0 % where it only has to choose (support-choice.routing; "
        "always `account_access`: 16.7 %): much of the gain is the form of the answer"
    )
    assert "(support-choice.next_step; " in found["next_step"]
    assert found["next_step"].endswith("it does not merely miss the form of the answer")


def test_a_task_is_told_of_where_its_answers_are_right_and_not_the_very_label():
    found = told("routing", tuned=lambda item: f"**{item.reference}**")
    assert found["routing"].endswith("much of the gain is the form of the answer")


def test_scores_are_called_by_the_suite_and_what_they_are():
    assert chooser().name == "support-choice" and chooser(name="labels").name == "labels"
    assert SuiteChoice(SuiteChoiceOptions()).name == "suite-choice"


SUITE = """\
name: notes
version: "1"
licence: MIT
canary: c-1234
about: What stands in notes.
tasks:
  find: {form: span, instruction: Find it.}
"""


def test_what_has_nothing_to_choose_is_refused(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "suite.jsonl").write_text('{"id": "a", "task": "find", "text": "Room 4.", "reference": "Room 4"}\n')
    evaluator = SuiteChoice(SuiteChoiceOptions(path=SpecPath(str(tmp_path), tmp_path)))
    assert evaluator.name == "notes-choice"
    (finding,) = evaluator.check(Facts())
    assert "no task of the suite `notes` has labels or letters" in finding.message and finding.field == "path"
    (finding,) = SuiteChoice(SuiteChoiceOptions(name="support")).check(Facts())
    assert (finding.code, finding.field) == ("missing-key", "kind") and "`suite: finance`" in finding.suggestion
