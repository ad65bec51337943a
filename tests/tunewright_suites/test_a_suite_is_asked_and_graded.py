"""Each suite gives its own references full marks, its traps less, and the empty answer none."""

from __future__ import annotations

import json
import re

import pytest

from tunewright.parts import Facts
from tunewright.parts.base import BadOption, SpecPath
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded
from tunewright_suites.evaluator import SuiteEvaluator, SuiteOptions
from tunewright_suites.files import INSTALLED, installed
from tunewright_suites.forms import LIMITS

DECLINED = "I'm sorry, but I can't decide that. Please ask your doctor or the clinic."


def made(**options):
    return SuiteEvaluator(SuiteOptions(**options))


def score(evaluator, item, text):
    return evaluator.grade(item, Completion([], text, "terminator", []))["score"]


def right_answer(evaluator, item):
    """What a model would have to write: of a refusal, a sentence."""
    line = evaluator._lines[item.id]
    if item.reference == "refuse":
        return DECLINED
    return f"It is this: {line.accept[0]}" if line.accept and item.reference == "answer" else item.reference


@pytest.mark.parametrize("suite", installed())
def test_a_reference_gets_full_marks_and_fits_its_limit(suite):
    evaluator = made(name=suite)
    for item in evaluator.items([]):
        assert score(evaluator, item, right_answer(evaluator, item)) == 1, item.id
        assert len(item.reference) / 2 <= evaluator.limit(item), item.id
        assert item.reference in item.choices or not item.choices


@pytest.mark.parametrize("suite", installed())
def test_what_is_empty_or_beside_the_point_gets_nothing(suite):
    evaluator = made(name=suite)
    for item in evaluator.items([]):
        for text in ("", "\n", "Many thanks!"):
            if item.reference != "answer" or evaluator._lines[item.id].accept or not text.strip():
                assert score(evaluator, item, text) == 0, (item.id, text)


@pytest.mark.parametrize("suite", installed())
def test_the_trap_gets_no_full_marks(suite):
    """The tempting wrong answer, where the item writes it as an answer."""
    evaluator, tried = made(name=suite), 0
    for item in evaluator.items([]):
        line = evaluator._lines[item.id]
        form = evaluator.suite.head.tasks[line.task].form
        if form in ("label", "span", "number"):
            wrong = [re.split(r"[,;:(]|\bruled out\b", line.trap)[0].strip(" '\"")]
        elif form == "choice":
            wrong = [letter for letter in item.choices if letter != item.reference]
        elif form == "refusal":
            wrong = ["You may do so, with a glass of water."] if item.reference == "refuse" else [DECLINED]
        elif form == "fields":
            wrong = [", ".join(line.reference[1:]), f"{item.reference}, a_field_that_nobody_has"]
        else:
            wrong = [json.dumps(line.reference | {next(iter(line.reference)): "something else"})]
        for text in wrong:
            tried += 1
            assert score(evaluator, item, text) < 1, (item.id, text)
    assert tried >= 40


def test_every_label_but_the_reference_gets_nothing():
    evaluator = made(name="legal")
    for item in evaluator.items([]):
        for label in item.choices:
            assert score(evaluator, item, label) == (label == item.reference)


def test_a_model_that_always_declines_pays_in_over_refusal():
    evaluator = made(name="medical")
    graded = [
        Graded(item, answer, evaluator.grade(item, answer))
        for item in evaluator.items([])
        for answer in [Completion([], DECLINED, "terminator", [])]
    ]
    scores = {metric: summary(graded) for metric, summary in evaluator.summaries().items()}
    assert scores["over_refusal"] == 1 and scores["safety"] == 0.5 and scores["urgency"] == 0
    assert evaluator.lower_is_better() == {"over_refusal"}


def test_json_is_graded_by_fields_and_by_its_schema():
    evaluator = made(name="finance")
    item = next(item for item in evaluator.items([]) if item.task == "direction")
    right = json.loads(item.reference)
    for value, fields, valid in ((right, 1, 1), (right | {"driver": "luck"}, 0.5, 0), (right | {"x": 1}, 0.8, 0)):
        grades = evaluator.grade(item, Completion([], f"```json\n{json.dumps(value)}\n```", "terminator", []))
        assert grades == {"score": pytest.approx(fields), "direction": pytest.approx(fields), "valid_json": valid}


def test_a_span_with_another_number_is_another_answer():
    evaluator = made(name="medical")
    item = next(item for item in evaluator.items([]) if item.reference == "2.5 mg")
    assert score(evaluator, item, "2.5 mg.") == 1
    assert score(evaluator, item, "25 mg") == 0.5  # the unit alone


def test_forms_of_short_answers_have_short_limits_unless_told():
    item = next(item for item in made(name="legal").items([]) if item.task == "clause")
    assert made(name="legal").limit(item) == LIMITS["label"] < 96
    assert made(name="legal", max_new_tokens=200).limit(item) == 200


def test_the_prompt_says_all_that_is_asked():
    item = next(item for item in made(name="support").items([]) if item.id == "support-next_step-01")
    (message,) = item.prompt
    assert message["role"] == "user"
    assert message["content"].startswith("This is a support ticket")
    assert "B. Delete the saved network on the laptop" in message["content"]
    assert (item.reference, item.choices, item.task) == ("B", ("A", "B", "C", "D"), "next_step")


def test_scores_are_called_by_the_suite_unless_named():
    assert made(name="support").name == "support"
    assert made(suite="support").name == "support"
    evaluator = made(suite="support", name="desk")
    assert evaluator.name == "desk" and evaluator.suite.head.name == "support"


# --- a folder of one's own

CARD = """\
name: mine
version: 0.1.0
licence: LicenseRef-own
canary: "OURS 1"
about: what we ask
tasks:
  colour:
    form: label
    instruction: Which colour? Answer red or blue.
    labels: [red, blue]
"""
GOOD = {"id": "a", "task": "colour", "text": "Blood.", "reference": "red"}
SECOND = GOOD | {"id": "b"}


@pytest.fixture
def own(tmp_path):
    def write(*lines, card=CARD):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "suite.yaml").write_text(card)
        (folder / "suite.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return made(path=SpecPath("mine", tmp_path))

    return write


def test_a_folder_of_ones_own_is_a_suite(own):
    evaluator = own(GOOD)
    assert evaluator.name == "mine" and not list(evaluator.check(Facts()))
    (item,) = evaluator.items([])
    assert item.prompt[0]["content"] == "Which colour? Answer red or blue.\n\nBlood."
    assert score(evaluator, item, "Red.") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (SECOND | {"reference": "green"}, "mine/suite.jsonl:2: the reference of the form label is one of red, blue"),
        (GOOD, "mine/suite.jsonl:2: the id `a` is that of mine/suite.jsonl:1 too"),
        (SECOND | {"task": "size"}, "mine/suite.jsonl:2: `suite.yaml` has no task `size`"),
        (SECOND | {"tolerance": 1}, "mine/suite.jsonl:2: `tolerance` belongs to the form number"),
        (SECOND | {"refrence": 1}, "mine/suite.jsonl:2: `refrence`"),
        ({"id": "b"}, "mine/suite.jsonl:2: `task`: field required"),
    ],
)
def test_a_bad_item_is_named_by_its_line(own, line, says):
    (finding,) = own(GOOD, line).check(Facts())
    assert says in finding.message and finding.field == "path"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("form: label", "form: essay"), "mine/suite.yaml:8: `tasks.colour.form`"),
        (("version: 0.1.0\n", ""), "`version`: field required"),
        (("    labels: [red, blue]\n", ""), "mine/suite.yaml:8: `colour` has the form `label`: `labels` belongs"),
        (("  colour:", "  score:"), "a task cannot be called `score`"),
        (("name: mine", "name: [mine"), "mine/suite.yaml:"),
    ],
)
def test_a_bad_card_is_named_by_its_line(own, change, says):
    (finding,) = own(GOOD, card=CARD.replace(*change)).check(Facts())
    assert says in finding.message


def test_a_schema_that_its_reference_breaks_is_refused(own):
    card = CARD.replace("form: label", "form: json").replace("labels: [red, blue]", "schema: {required: [colour]}")
    with pytest.raises(BadOption, match=r"mine/suite.jsonl:1: the reference does not keep"):
        list(own(GOOD | {"reference": {}}, card=card).items([]))


def test_a_changed_suite_is_another_evaluation(own):
    before = own(GOOD).signature()
    assert own(GOOD).signature() == before
    assert own(GOOD | {"text": "Sky."}).signature() != before
    assert own(GOOD, card=CARD.replace("OURS 1", "OURS 2")).signature() != before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "it is not said which suite"),
        ({"name": "law"}, "there is no suite `law`"),
        ({"suite": "legal", "path": SpecPath("x", INSTALLED)}, "leave one out"),
        ({"path": SpecPath("nowhere", INSTALLED)}, "there is no file `suite.yaml` in `nowhere`"),
    ],
)
def test_what_names_no_suite_is_said(options, says):
    assert any(says in finding.message for finding in made(**options).check(Facts()))
