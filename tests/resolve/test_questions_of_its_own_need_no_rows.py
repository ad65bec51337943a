"""An evaluation that brings questions of its own is asked no rows: it needs no `data.test` and reads none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest

from fake_project import FIRST_PARTY
from tunewright.host import Host, hookimpl
from tunewright.parts.evaluator import EvaluatorOptions, Item
from tunewright.project import Project
from tunewright.spec.problems import SpecError

ROWS = "  test: [{kind: fake, path: test.csv}]\n"
OWN = "evals: [{kind: own}]"


@pytest.fixture
def given(fakes, monkeypatch):
    """A host with the fakes and an evaluator with one question of its own; what rows that is given, call by call."""
    import tunewright_fakes as f

    class OwnOptions(EvaluatorOptions):
        kind: str = "own"

    class Own(f.FakeEvaluator):
        kind, Options, consumes = "own", OwnOptions, ()
        rows: ClassVar[list[list]] = []

        def items(self, data):
            self.rows.append(list(data))
            return [Item("1", "own:1", [{"role": "user", "content": "where is my parcel"}], "delivery")]

    monkeypatch.setattr(f, "Own", Own, raising=False)
    plugin = SimpleNamespace(tunewright_backends=hookimpl(lambda: {"evaluator/own": "tunewright_fakes:Own"}))
    return SimpleNamespace(host=Host(blocked=FIRST_PARTY, extra={"own": plugin}), rows=Own.rows)


def project(spec, host, *edits):
    text = spec.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    return Project.from_spec(spec, host=host)


NO_ROWS = (ROWS, ""), ("evals: [{kind: fake}]", OWN), ("metric: fake.right", "metric: own.right")


def test_a_spec_without_test_rows_runs_on_the_questions_of_an_evaluation(fake_spec, given):
    one = project(fake_spec, given.host, *NO_ROWS)
    assert one.validate() == []
    planned = one.plan()
    assert planned.visible["own"].whole.items == 1
    one.run()
    assert given.rows and not any(given.rows)


def test_only_those_that_ask_rows_are_said_to_lack_them(fake_spec, given):
    one = project(fake_spec, given.host, (ROWS, ""), ("evals: [{kind: fake}]", "evals: [{kind: own}, {kind: fake}]"))
    (found,) = one.validate()
    assert (found.code, found.message) == ("no-test-data", "there are no rows to ask in `fake`: `data.test` is empty")


@pytest.mark.parametrize(("field", "value"), [("format", "{kind: fake}"), ("test", "[{kind: fake, path: test.csv}]")])
def test_rows_that_nothing_would_read_are_refused_at_their_key(fake_spec, given, field, value):
    one = project(fake_spec, given.host, ("evals: [{kind: fake}]", f"evals: [{{kind: own, {field}: {value}}}]"),
                  ("metric: fake.right", "metric: own.right"))  # fmt: skip
    with pytest.raises(SpecError) as raised:
        one.plan()
    (found,) = raised.value.problems
    said = f"evaluator `own` brings questions of its own: `{field}` is not read"
    assert (found.code, found.message, found.suggestion) == ("argument-unused", said, "remove it")
    assert (found.position.line, found.position.column) == (11, 21)


def test_it_is_measured_once_whatever_becomes_of_the_test_rows(fake_spec, given):
    edits = ("evals: [{kind: fake}]", OWN), ("metric: fake.right", "metric: own.right")
    before = project(fake_spec, given.host, *edits).plan().keys["evaluate-base"]
    (fake_spec.parent / "test.csv").write_text("text,queue\nwhere is the lid,delivery\n")
    assert Project.from_spec(fake_spec, host=given.host).plan().keys["evaluate-base"] == before
