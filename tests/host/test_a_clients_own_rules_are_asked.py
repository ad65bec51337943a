"""`tunewright_check_spec`: a client's rule sees the spec and what is known, and its finding has a place."""

from __future__ import annotations

from types import SimpleNamespace

from fake_project import FIRST_PARTY
from tunewright.host import Host, hookimpl
from tunewright.parts import Finding
from tunewright.project import Project


def problems(fake_spec, rule):
    plugin = SimpleNamespace(tunewright_check_spec=hookimpl(rule))
    return Project.from_spec(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"acme": plugin})).validate()


def test_a_finding_stands_at_the_value_that_it_is_about(fakes, fake_spec):
    def rule(spec, facts):
        if spec.seed != 0:
            yield Finding("acme-seed", "we always use seed 0", field="seed", suggestion="write `seed: 0`")

    (problem,) = problems(fake_spec, rule)
    assert (problem.code, problem.message, problem.suggestion) == (
        "acme-seed",
        "we always use seed 0",
        "write `seed: 0`",
    )
    assert fake_spec.read_text().splitlines()[problem.position.line - 1] == "seed: 7"


def test_a_rule_sees_the_columns_of_the_files(fakes, fake_spec):
    seen = []

    def rule(facts):
        seen.extend(facts.train[0].columns)

    assert problems(fake_spec, rule) == []
    assert seen == ["text", "queue"]
