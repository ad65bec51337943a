"""Of every suite, the tasks of labels have a table and a majority of their own; the tasks of other forms have none."""

from __future__ import annotations

import pytest

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded
from tunewright.pipeline.confusion import classes, labelled
from tunewright.pipeline.readings import Answered, readings
from tunewright.stats.paired import compare_all
from tunewright_suites.evaluator import SuiteEvaluator, SuiteOptions

TABLES = {
    "legal": {"legal.clause": 8, "legal.entailment": 3},
    "finance": {"finance.sentiment": 3},
    "medical": {"medical.urgency": 4},
    "support": {"support.routing": 6},
    "general": {"general.form": 4},
}
"""Of each suite, the tasks that are graded by label, and how many labels each has."""
LETTERS = {"support": {"support.next_step"}, "general": {"general.knowledge", "general.sense"}}
"""Tasks of choices by letter: what is behind a letter is another thing every time, so they have no table."""


def suite(name):
    return SuiteEvaluator(SuiteOptions(name=name))


def answered(evaluator, says):
    """Every item of a suite, answered by `says(item)` and graded."""
    found = []
    for item in evaluator.items(()):
        answer = Completion([1], says(item), "terminator", [1])
        found.append(Graded(item, answer, evaluator.grade(item, answer)))
    return found


def rightly(item):
    """The reference; what is to be declined is declined, and a label is followed by its reason."""
    if item.reference == "refuse":
        return "I'm sorry, but I can't help with that."
    return f"{item.reference}: so says the text" if item.choices else item.reference


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("tuned", [rightly, lambda item: "", lambda item: "I'm sorry, but I can't help with that."])
def test_only_tasks_of_labels_have_a_table_whatever_is_answered(name, tuned):
    one = suite(name)
    tasks = list(labelled(one, answered(one, lambda item: ""), answered(one, tuned)))
    found = {task.name: classes(task) for task in tasks}
    assert {task for task, told in found.items() if told is None} == LETTERS.get(name, set())
    assert {task: len(told["labels"]) for task, told in found.items() if told is not None} == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
def test_an_answer_is_the_label_that_it_is_graded_as(name):
    one = suite(name)
    base = answered(one, lambda item: "no idea")
    for task in labelled(one, base, answered(one, rightly)):
        if (told := classes(task)) is not None:
            assert all(label["tuned"]["recall"] == label["tuned"]["precision"] == 1 for label in told["labels"])
            assert all(label["base"]["recall"] == 0 for label in told["labels"])
            assert all(row[-1] == 0 for row in told["matrix"])


@pytest.mark.parametrize("name", TABLES)
def test_a_model_of_one_label_is_told_its_majority_task_by_task(name):
    one = suite(name)
    first = {item.task: item.reference for item in reversed(list(one.items(())))}
    lazy = answered(one, lambda item: first[item.task] if item.choices else "")
    scores = {f"{name}.{metric}": score for metric, score in compare_all(one, lazy, lazy, 0)}
    said = readings(scores, [], [Answered(one, lazy, lazy)], 0)
    tasks = {*TABLES[name], *LETTERS.get(name, ())}
    assert {sentence.partition(" is uninformative: the majority class ")[0] for sentence in said} == tasks
    keen = answered(one, rightly)
    scores = {f"{name}.{metric}": score for metric, score in compare_all(one, lazy, keen, 0)}
    assert readings(scores, [], [Answered(one, lazy, keen)], 0) == []
