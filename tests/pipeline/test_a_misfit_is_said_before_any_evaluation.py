"""An adapter that cannot be put on its base is said at its line, and as soon as the base is known."""

from __future__ import annotations

import json

import pytest

from tunewright.parts.base import BadOption
from tunewright.pipeline.run import Run
from tunewright.project import Project
from tunewright.spec.problems import SpecError


@pytest.fixture
def run(fake_spec, fake_host):
    """Run the fakes' spec, which must be refused: the problem, and the steps that the run came to."""

    def run():
        with pytest.raises(SpecError) as caught:
            Project(fake_spec, (), fake_host).run(fake_spec.parent / "out")
        (problem,) = caught.value.problems
        summary = json.loads((fake_spec.parent / "out/latest/run.json").read_text())
        return problem, [step["name"] for step in summary["steps"]]

    return run


def refuse(*_):
    raise BadOption("unknown-target", "the model has no such layer", "kind", "name another")


def test_a_base_that_only_the_download_knows_is_tried_at_once(run, fakes, monkeypatch):
    from tunewright_fakes import FakeAdapter, FakeLoader

    tried = []
    monkeypatch.setattr(FakeLoader, "outline", lambda self, config: tried.append(config) or "a model")
    monkeypatch.setattr(FakeAdapter, "fit", refuse)
    problem, steps = run()
    assert tried == [{"model_type": "fake"}], "the fetched base's own config.json"
    assert (problem.code, problem.position.line, steps) == ("unknown-target", 5, ["fetch"])
    assert problem.suggestion == "name another"


def test_what_was_trained_before_is_not_tried_again(fake_spec, fake_host, monkeypatch):
    from tunewright_fakes import FakeAdapter, FakeLoader

    assert Project(fake_spec, (), fake_host).run(fake_spec.parent / "out").passed
    monkeypatch.setattr(FakeLoader, "outline", lambda self, config: "a model")
    monkeypatch.setattr(FakeAdapter, "fit", refuse)
    assert Project(fake_spec, (), fake_host).run(fake_spec.parent / "out").passed


def test_a_rehearsal_is_told_before_its_processes_start(fake_spec, fake_host, monkeypatch):
    from tunewright_fakes import FakeAdapter, FakeLoader

    monkeypatch.setattr(FakeLoader, "outline", lambda self, config: "a model")
    monkeypatch.setattr(FakeAdapter, "fit", refuse)
    plan, root = Project(fake_spec, (), fake_host).plan(), fake_spec.parent / "out"
    with Run.open(plan, root) as opened, pytest.raises(SpecError, match="no such layer"):
        opened.before_training()


def test_what_only_the_training_finds_has_its_line_too(run, fakes, monkeypatch):
    from tunewright_fakes import FakeAdapter

    monkeypatch.setattr(FakeAdapter, "wrap", refuse)
    problem, steps = run()
    assert (problem.code, problem.position.line, steps[-1]) == ("unknown-target", 5, "train")
