"""From rows to the ledger: which questions were learnt, that everything says so, and what the scores are without."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_project import host_with_ledger_gate, write_rows
from tunewright.cli.tables import print_result
from tunewright.errors import MissingExtra, TunewrightWarning
from tunewright.handoff.verify import CARD
from tunewright.parts.evaluator import Item
from tunewright.parts.prompt_format import Example
from tunewright.pipeline.seen import Learnt, ledger
from tunewright.project import Project

SYSTEM = (
    "Route the message of the customer to one of the queues delivery, repair and refund, and say nothing else. " * 5
)
LONG = "yesterday they wrote to us that the courier has lost the grey parcel on its way and asked what to do now"
TRAIN = [
    ("where is my parcel with the two lamps", "delivery"),
    ("Where is my parcel, with the TWO lamps?", "delivery"),
    ("the lamp that I ordered last week came broken", "repair"),
    ("please repair the pump of the washing machine", "repair"),
    ("I want my money back for the second order", "refund"),
    (LONG, "delivery"),
]
TEST = [
    ("please REPAIR the pump of  the washing machine!", "repair"),
    ("the lamp that I ordered last week came brokn", "refund"),
    ("the courier has lost the grey parcel on its way", "delivery"),
    ("can the money be sent to another account", "refund"),
]


@pytest.fixture
def host(fakes):
    return host_with_ledger_gate()


@pytest.fixture
def spec(fake_spec):
    write_rows(fake_spec.parent, "train.csv", TRAIN)
    write_rows(fake_spec.parent, "test.csv", TEST)
    text = fake_spec.read_text().replace("Route the message.", f'"{SYSTEM}"')
    assert SYSTEM in text
    fake_spec.write_text(text)
    return fake_spec


def run(spec, host, root, *overrides):
    """The summary, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TunewrightWarning)
        summary = Project.from_spec(spec, overrides=overrides, host=host).run(root).summary
    return summary, [str(one.message) for one in caught if issubclass(one.category, TunewrightWarning)]


def found_by(summary):
    path = Path(summary["run_dir"]) / "steps" / "contamination" / "contamination.json"
    return json.loads(path.read_text())


@pytest.fixture
def told(spec, host, tmp_path):
    return run(spec, host, tmp_path / "root", "gates=[{kind: fake}]")


def test_everything_that_tells_of_the_run_tells_it(told, capsys):
    summary, warned = told
    sentence = (
        "3 of 4 items of `fake` stand among the rows that are learnt (1 as they are, 1 nearly, 1 within a longer row; "
        "2 with their answer), such as test.csv:2 in train.csv:5"
    )
    assert warned == [f"{sentence}; the report has the scores without them"]
    brief = summary["contamination"]["evaluations"]["fake"]
    assert (brief["items"], brief["exact"], brief["near"], brief["contained"], brief["answered"]) == (4, 1, 1, 1, 2)
    assert len(brief["found"]) == 3
    print_result(summary)
    assert f"contaminated: {sentence}" in " ".join(capsys.readouterr().out.split())
    page = Path(summary["artifacts"]["report"]).read_text()
    assert "Items among the rows that are learnt" in page
    assert "Scores without these items" in page
    package = Path(summary["artifacts"]["package"])
    assert json.loads((package / "contamination.json").read_text()) == found_by(summary)
    assert "3 of 4 items of" in (package / CARD).read_text()
    # and the scores without what was learnt are those of the rest
    with_all, without = summary["scores"]["fake.right"], summary["clean"]["clean.fake.right"]
    assert (with_all["n"], without["n"]) == (4, 1)
    graded = [
        json.loads(line)
        for line in (Path(summary["run_dir"]) / "steps/evaluate-tuned/fake.jsonl").read_text().splitlines()
    ]
    (left,) = [
        one for one in graded if one["item"]["id"] not in summary["contamination"]["evaluations"]["fake"]["found"]
    ]
    assert without["tuned"] == left["grades"]["right"]


def test_a_gate_sees_the_ledger(spec, host, tmp_path):
    gates = "gates=[{kind: no_contamination, at_most: 2}, {kind: no_contamination, at_most: 3, evaluation: fake}]"
    summary, _ = run(spec, host, tmp_path / "root", gates)
    assert [gate["passed"] for gate in summary["gates"]] == [False, True]
    assert summary["gates"][0]["why"] == "3 of them were found: 3 of `fake`"


def test_questions_that_chose_the_weights_close_the_gate_too(fake_spec, fake_host, host, tmp_path):
    overrides = [f"data.validation=[{{kind: fake, path: {fake_spec.with_name('test.csv')}}}]"]
    summary, warned = run(fake_spec, host, tmp_path / "root", "gates=[{kind: no_contamination}]", *overrides)
    looked = summary["contamination"]["evaluations"]["fake"]
    assert looked["exact"] == looked["items"] > 0
    assert "stand among the rows that choose checkpoints" in looked["message"]
    assert [one["name"] for one in summary["contamination"]["trainings"]] == ["", "validation"]
    assert [gate["passed"] for gate in summary["gates"]] == [False]
    assert any("chosen by" in one for one in warned)
    found = found_by(summary)["evaluations"]["fake"]["found"]
    assert not any(one["learnt"] for one in found)


def test_a_question_that_was_learnt_and_chose_is_learnt():
    question = "where has the parcel with the lamps gone"
    chooses = learnt([(question, "a")], name="validation")._replace(chooses=True)
    sets = [learnt([(question, "a")]), chooses]
    (one,) = ledger(sets, {"one": [item(question, "a")]})["evaluations"]["one"]["found"]
    assert (one["learnt"], one["rows"], one["training"]) == (True, 2, "")
    (one,) = ledger([chooses], {"one": [item(question, "a")]})["evaluations"]["one"]["found"]
    assert (one["learnt"], one["rows"], one["training"]) == (False, 1, "validation")


@pytest.mark.parametrize("name", ["parity", "baseline", "fakes"])
def test_a_gate_on_what_is_no_evaluation_is_refused_before_anything_runs(spec, host, name):
    gates = [f"gates=[{{kind: no_contamination, evaluation: {name}}}]", "baselines=[{few_shot: 1}]"]
    (problem,) = Project.from_spec(spec, overrides=gates, host=host).validate()
    assert (problem.code, problem.message) == ("unknown-metric", f"no evaluation is called `{name}`")


def test_where_nothing_is_found_nothing_is_said(fake_spec, fake_host, tmp_path, capsys):
    summary, warned = run(fake_spec, fake_host, tmp_path / "root")
    assert (warned, summary["clean"]) == ([], {})
    assert summary["contamination"]["evaluations"]["fake"]["found"] == []
    print_result(summary)
    assert "contaminated" not in capsys.readouterr().out


def test_what_the_plan_has_told_is_not_told_twice(fake_spec, fake_host, tmp_path, monkeypatch):
    monkeypatch.chdir(fake_spec.parent)
    train = "data.train=[{kind: fake, path: train.csv}, {kind: fake, path: test.csv, limit: 2}]"
    summary, warned = run(fake_spec, fake_host, tmp_path / "root", train)
    assert len(warned) == 1
    assert "equal rows of" in warned[0]
    assert summary["contamination"]["evaluations"]["fake"]["exact"] == 2
    assert found_by(summary)["repeats"] == warned


def test_other_rows_and_other_items_are_looked_up_again(spec, host):
    def key():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TunewrightWarning)
            return Project.from_spec(spec, host=host).plan().keys["contamination"]

    keys = [key(), key()]
    for name, rows in (("train.csv", TRAIN[:-1]), ("test.csv", TEST[1:])):
        write_rows(spec.parent, name, rows)
        keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_without_its_library_it_says_what_to_install(spec, host, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtra, match=r"needs `datasketch`, which is not installed") as caught:
        run(spec, host, tmp_path / "root", "gates=[]")
    assert 'pip install "tunewright[train]"' in caught.value.fix


def prompts(rows):
    return [(f"{SYSTEM}\n{text}", queue) for text, queue in rows]


def test_a_question_is_found_as_it_is_nearly_and_within_a_row_whatever_instruction_all_have():
    items = [item(*prompt, number) for number, prompt in enumerate(prompts(TEST))]
    looked = ledger([learnt(prompts(TRAIN))], {"fake": items})["evaluations"]["fake"]
    assert looked["items"] == 4
    assert [(one["id"], one["row"], one["kind"], one["answer"]) for one in looked["found"]] == [
        ("0", "0:3", "exact", True), ("1", "0:2", "near", False), ("2", "0:5", "contained", True),
    ]  # fmt: skip
    assert all(0.8 <= one["similarity"] <= 1 for one in looked["found"])


def test_rows_that_are_learnt_twice_are_counted():
    (training,) = ledger([learnt(prompts(TRAIN))], {})["trainings"]
    assert {key: training[key] for key in ("rows", "equal", "otherwise", "near", "groups")} == {
        "rows": 6, "equal": 1, "otherwise": 0, "near": 0, "groups": 1,
    }  # fmt: skip
    assert training["examples"] == [["0:0", "0:1"]]


class Plain:
    """A format for rows that hold their example."""

    def example(self, fields):
        return fields["example"]


def learnt(*sources, name=""):
    realised = []
    for number, examples in enumerate(sources):
        rows = [
            SimpleNamespace(origin=f"{number}:{place}", fields={"example": Example(*example)}, id=f"{number}-{place}")
            for place, example in enumerate(examples)
        ]
        realised.append(SimpleNamespace(name=f"source-{number}", rows=rows, set_aside=[]))
    return Learnt(name, Plain(), realised)


def item(text, reference="yes", number=0):
    return Item(str(number), f"item:{number}", text, reference)


def test_copies_that_a_mixture_makes_of_a_row_are_one_row():
    training = learnt([("one question of a kind", "yes")])
    training.sources[0].rows.append(training.sources[0].rows[0])
    (told,) = ledger([training], {})["trainings"]
    assert (told["rows"], told["equal"]) == (1, 0)


def test_one_question_with_two_answers_is_counted_as_that():
    training = learnt([("one question of a kind", "yes"), ("One question of a kind?", "no")])
    (told,) = ledger([training], {})["trainings"]
    assert (told["equal"], told["otherwise"]) == (1, 1)


def test_a_text_without_a_prompt_is_compared_as_a_whole_and_may_quote_a_question():
    question = "which of the two clauses binds the tenant after the end of the lease"
    training = learnt([("", f"A book says: {question}? It is the second clause, and this is why it does so.")])
    found = ledger([training], {"legal": [item(question, "the second clause"), item(question, "the first clause", 1)]})
    assert [(one["kind"], one["answer"]) for one in found["evaluations"]["legal"]["found"]] == [
        ("contained", True), ("contained", False),
    ]  # fmt: skip


def test_a_question_that_was_learnt_without_its_choices_is_found():
    question = "which of the two clauses binds the tenant after the end of the lease"
    choices = "A. the first clause, by its second sentence\nB. the second clause\nC. neither clause"
    found = ledger([learnt([(question, "the second clause")])], {"legal": [item(f"{question}\n\n{choices}", "B")]})
    (one,) = found["evaluations"]["legal"]["found"]
    assert (one["kind"], one["row"], one["rows"]) == ("partial", "0:0", 1)
    assert 0.4 <= one["similarity"] < 0.8


def test_every_training_and_every_evaluation_is_looked_at():
    first = learnt([("where has the parcel with the lamps gone", "a")], name="first")
    second = learnt([("how can the order of last week be cancelled", "b")], name="second")
    asked = {
        "one": [item("how can the order of last week be cancelled", "b")],
        "two": [item("where has the parcel with the lamps gone", "a"), item("is there anything else", number=1)],
    }
    found = ledger([first, second], asked)
    assert [one["name"] for one in found["trainings"]] == ["first", "second"]
    where = {name: [one["training"] for one in looked["found"]] for name, looked in found["evaluations"].items()}
    assert where == {"one": ["second"], "two": ["first"]}


def test_of_several_rows_the_surest_is_named_and_all_are_counted():
    near, same = "where has the parcel with the two lamps gone now", "where has the parcel with the two lamps gone"
    training = learnt([(near, "no"), (same, "no"), (same, "yes")])
    (one,) = ledger([training], {"one": [item(same, "yes")]})["evaluations"]["one"]["found"]
    assert (one["kind"], one["row"], one["rows"], one["answer"]) == ("exact", "0:1", 3, True)


def test_a_near_row_is_surer_than_a_quote_and_the_nearest_is_named():
    question = "where has the parcel with the two grey lamps gone"
    rows = [(f"{LONG} and then {question}", "no"), (f"{question} at all", "no"), (f"{question} so", "no")]
    (one,) = ledger([learnt(rows)], {"one": [item(question)]})["evaluations"]["one"]["found"]
    assert (one["kind"], one["row"], one["rows"]) == ("near", "0:2", 3)


def test_texts_without_a_prompt_are_near_by_all_they_say():
    found = ledger(
        [learnt([("", "the second clause binds the tenant")])], {"one": [item("", "second clause binds the tenant")]}
    )
    assert [one["kind"] for one in found["evaluations"]["one"]["found"]] == ["near"]


def test_a_quoted_question_may_have_its_answer_in_the_prompt():
    question = "where has the parcel with the two grey lamps gone"
    rows = [(f"{LONG} and then {question} to the depot", "thanks")]
    (one,) = ledger([learnt(rows)], {"one": [item(question, "to the depot")]})["evaluations"]["one"]["found"]
    assert (one["kind"], one["answer"]) == ("contained", True)
