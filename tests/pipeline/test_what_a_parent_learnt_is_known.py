"""`adapter.parent`: what it learnt of the child's questions is taken from its ledger, or said not to be known."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from fake_project import host_with_ledger_gate, write_rows
from tunewright.errors import TunewrightWarning
from tunewright.handoff.verify import CARD
from tunewright.parts.evaluator import Item
from tunewright.pipeline.inherited import Known, joined, known_by
from tunewright.pipeline.seen import KINDS, METHOD, ledger
from tunewright.project import Project

TEST = [("where is my parcel with the lamps", "delivery"), ("the pump of the washing machine is broken", "repair")]
OTHER = [("I want my money back for the order", "refund"), ("the roof leaks", "repair")]
GATE = "gates=[{kind: no_contamination}]"


@pytest.fixture
def host(fakes):
    return host_with_ledger_gate()


@pytest.fixture
def run(fake_spec, host, tmp_path):
    """Trains on rows, perhaps from a parent on; the summary with what was warned of."""

    def run(rows, *overrides, parent=None):
        write_rows(fake_spec.parent, "train.csv", rows)
        write_rows(fake_spec.parent, "test.csv", TEST)
        on = () if parent is None else (f"adapter={{kind: fake, parent: {parent}}}",)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TunewrightWarning)
            summary = (
                Project.from_spec(fake_spec, overrides=[*overrides, *on], host=host).run(tmp_path / "root").summary
            )
        return {**summary, "warned": [str(one.message) for one in caught]}

    return run


def package(summary):
    return Path(summary["artifacts"]["package"])


def test_a_parent_that_was_asked_nothing_may_have_learnt_every_question(run, capsys):
    from tunewright.cli.tables import print_result

    parent = package(run(TEST, "evals=[]", "gates=[]"))
    child = run(OTHER, GATE, parent=parent)
    (gate,) = child["gates"]
    assert not gate["passed"]
    assert gate["why"] == "none of them were found, but what the parent learnt was not looked at for 2 of `fake`"
    sentence = (
        "2 of 2 items of `fake` were not looked up among what the parent learnt: its package does not tell of them"
    )
    assert any(one.startswith(sentence) and "run the parent's own spec" in one for one in child["warned"])
    assert child["contamination"]["evaluations"]["fake"]["unlooked"] == 2
    print_result(child)
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert "2 of 2 items of fake were not looked up" in Path(child["artifacts"]["report"]).read_text()


def test_questions_that_the_parent_learnt_are_found_and_named(run):
    parent = package(run(TEST, "gates=[]"))
    child = run(OTHER, GATE, parent=parent)
    assert child["gates"][0]["why"] == "2 of them were found: 2 of `fake`"
    looked = child["contamination"]["evaluations"]["fake"]
    assert (looked["exact"], looked["answered"], looked["unlooked"]) == (2, 2, 0)
    path = Path(child["run_dir"]) / "steps/contamination/contamination.json"
    first = json.loads(path.read_text())["evaluations"]["fake"]["found"][0]
    assert (first["training"], first["row"]) == ("parent", "train.csv:2")


def test_a_parent_that_was_judged_by_the_same_questions_and_learnt_none_closes_no_gate(run):
    first = package(run(OTHER, GATE))
    second = run([("send the invoice again", "refund")], GATE, parent=first)
    assert second["gates"][0]["passed"]
    assert not any("parent" in one for one in second["warned"])


def test_a_bare_folder_tells_nothing_even_with_a_ledger_beside_it(run, tmp_path):
    made = package(run(OTHER, GATE))
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "contamination.json"):
        (bare / name).write_bytes((made / name).read_bytes())
    told = package(run([("send the invoice again", "refund")], "gates=[]", parent=bare))
    assert "were not looked up among what the parent learnt" in " ".join((told / CARD).read_text().split())


def item(text, reference):
    return Item(text, f"at {text}", text, reference)


def test_a_ledger_speaks_for_the_items_that_it_looked_up_by_its_method():
    asked = {"one": [item("where is the parcel", "a")]}
    told = {"method": METHOD, **ledger([], asked)}
    more = {"other": [*asked["one"], item("where is the invoice", "a"), item("where is the parcel", "b")]}
    looked = ledger([], more, known_by(told, METHOD))["evaluations"]["other"]
    assert (looked["items"], len(looked["looked"]), looked["unlooked"]) == (3, 1, 2)
    for unknown in (None, {**told, "method": {**METHOD, "threshold": 0.9}}):
        assert ledger([], more, known_by(unknown, METHOD))["evaluations"]["other"]["unlooked"] == 3


def test_grandchildren_know_what_their_parents_knew():
    """What the first learnt comes down the line, and so does what nobody knows of it."""
    asked = {"one": [item("where is the parcel", "a"), item("where is the invoice", "a")]}
    known = Known(frozenset(ledger([], {"one": asked["one"][:1]})["evaluations"]["one"]["looked"]), {})
    second = {"method": METHOD, **ledger([], asked, known)}
    third = ledger([], asked, known_by(second, METHOD))["evaluations"]["one"]
    assert (len(third["looked"]), third["unlooked"]) == (1, 1)


def test_of_what_run_and_parent_learnt_the_surer_is_named_and_all_is_counted():
    own = {"kind": "near", "similarity": 0.9, "training": "", "row": "t:2", "rows": 2, "learnt": True, "answer": False}
    told = {**own, "kind": "exact", "similarity": 1.0, "row": "p:7", "rows": 1, "learnt": False, "answer": True}
    both = joined(own, told, list(KINDS))
    assert (both["training"], both["row"], both["kind"], both["rows"]) == ("parent", "p:7", "exact", 3)
    assert both["learnt"] and both["answer"]
    assert joined(told, own, list(KINDS))["row"] == "p:7"
    assert joined(None, told, list(KINDS)) == {**told, "training": "parent"}
