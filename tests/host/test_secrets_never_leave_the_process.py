"""`${env:NAME}` is read where it is used, and its value stands in nothing that a run writes or prints (attack A14)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tunewright import secrets
from tunewright.cli import main as command_line
from tunewright.errors import EnvironmentFault, Refused, WorkFailed
from tunewright.host import Host, hookimpl
from tunewright.parts import Secret
from tunewright.project import Project
from tunewright.spec.problems import SpecError, render_github, render_json
from tunewright.store.publish import publish

CANARY = "canary-7f3a9-do-not-print"
REFERENCE = "${env:ACME_TOKEN}"
LINES = [
    f"{{endpoint: {{api_key: '{CANARY}'}}}}",
    f'[{{endpoint: {{api_key: "{CANARY}", urll: 1}}}}]',
    f"[{{few_shot: {{token: {CANARY}}}}}]",
]
"""Baselines that are mistaken in something else."""


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(secrets, "_revealed", {})


def leaky(leak: str):
    """A source of rows with a token, which it leaks in one way."""
    import tunewright_fakes as fakes

    class Options(fakes.RowsOptions):
        kind: str = "leaky"
        token: Secret

    class Leaky(fakes.FakeRows):
        kind, reads = "leaky", frozenset({"path", "token"})

        def rows(self):
            value = self.options.token.reveal()
            if leak == "error":
                raise WorkFailed(f"the server refuses {value}")
            if leak == "defect":
                raise KeyError(value)
            for row in super().rows():
                yield row if leak != "row" else type(row)(row.id, f"{row.origin}?token={value}", row.fields)

    Leaky.Options = Options
    module = ModuleType("leaky_plugin")
    module.Leaky = Leaky
    module.tunewright_backends = hookimpl(lambda: {"data_source/leaky": "leaky_plugin:Leaky"})
    return module


@pytest.fixture
def project(fake_spec, fakes, monkeypatch):
    import sys

    from fake_project import FIRST_PARTY

    def make(leak: str = "", token: str = REFERENCE) -> Project:
        module = leaky(leak)
        monkeypatch.setitem(sys.modules, "leaky_plugin", module)
        text = fake_spec.read_text().replace(
            "train: [{kind: fake, path: train.csv}]",
            f"train: [{{kind: leaky, path: train.csv, token: '{token}'}}]",
        )
        fake_spec.write_text(text)
        return Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"leaky": module}))

    return make


def holds_canary(folder: Path) -> list[str]:
    return [
        path.as_posix()
        for path in folder.rglob("*")
        if path.is_file() and (CANARY.encode() in path.read_bytes() or CANARY in path.name)
    ]


def test_a_whole_run_leaves_no_trace_of_a_secret(project, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    result = project().run(tmp_path / "out")
    assert result.passed
    assert holds_canary(tmp_path) == []
    lock = Path(result.summary["run_dir"], "spec.lock.yaml").read_text()
    assert REFERENCE in lock
    assert CANARY not in "".join(capfd.readouterr())
    assert CANARY not in json.dumps(result.summary)


def test_an_output_that_holds_a_secret_is_not_published(project, tmp_path, monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    with pytest.raises(Refused, match="holds the value of"):
        project("row").run(tmp_path / "out")
    assert holds_canary(tmp_path) == []


@pytest.mark.parametrize("leak", ["error", "defect"])
def test_an_error_is_shown_with_the_name_in_place_of_the_value(project, leak, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    made = project(leak)
    monkeypatch.setattr(command_line, "_host", lambda *_: made.host)
    monkeypatch.setattr(command_line, "_only_typed", lambda: None)  # it would shorten the list for every later test
    monkeypatch.setattr("sys.argv", ["tunewright", "run", str(made.spec), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    said = "".join(capfd.readouterr())
    assert ended.value.code == 1
    assert CANARY not in said and REFERENCE in said
    assert holds_canary(tmp_path) == []


def test_another_value_of_a_secret_trains_nothing_anew(project, tmp_path, monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    made = project()
    first = made.plan().keys
    monkeypatch.setenv("ACME_TOKEN", "another-value")
    assert made.plan().keys == first


def test_a_variable_that_is_not_set_is_named(project, tmp_path, monkeypatch):
    monkeypatch.delenv("ACME_TOKEN", raising=False)
    with pytest.raises(EnvironmentFault, match="ACME_TOKEN"):
        project().run(tmp_path / "out")


def test_a_secret_that_stands_in_the_spec_is_refused_without_showing_it(project):
    made = project(token=CANARY)
    with pytest.raises(SpecError) as caught:
        made.resolve()
    (problem,) = caught.value.problems
    assert (problem.code, problem.position.line) == ("secret-in-spec", 8)
    assert problem.suggestion == "write `${env:NAME}`, and set NAME in the environment"
    for shown in (str(caught.value), render_json([problem]), render_github([problem])):
        assert CANARY not in shown


def test_a_secret_typed_with_set_is_not_shown_either(project):
    made = project()
    made.overrides = (f"data.train.0.token={CANARY}",)
    with pytest.raises(SpecError) as caught:
        made.resolve()
    problems = caught.value.problems
    for shown in (str(caught.value), render_json(problems), render_github(problems)):
        assert CANARY not in shown


@pytest.mark.parametrize("line", LINES)
def test_another_mistake_beside_a_secret_does_not_show_it(project, line):
    made = project()
    made.overrides = (f"baselines={line}",)
    with pytest.raises(SpecError) as caught:
        made.resolve()
    assert "secret-in-spec" not in {problem.code for problem in caught.value.problems}
    problems = caught.value.problems
    for shown in (str(caught.value), render_json(problems), render_github(problems)):
        assert CANARY not in shown


def test_a_reference_beside_another_mistake_is_shown_as_written(project):
    made = project()
    made.overrides = ("baselines={endpoint: {api_key: '${env:ACME_TOKEN}'}}",)
    with pytest.raises(SpecError, match=r"api_key: '\$\{env:ACME_TOKEN\}'"):
        made.resolve()


def test_a_reference_where_none_is_read_is_a_problem_at_its_place(project):
    made = project()
    text = made.spec.read_text().replace("system: Route the message.", "system: 'Route for ${env:ACME_TOKEN}.'")
    made.spec.write_text(text)
    with pytest.raises(SpecError) as caught:
        made.resolve()
    (problem,) = caught.value.problems
    assert (problem.code, problem.position.line, problem.position.column) == ("env-not-read", 7, 32)


def test_of_two_secrets_the_longer_is_replaced_whole(monkeypatch):
    monkeypatch.setenv("SHORT", "canary")
    monkeypatch.setenv("LONG", CANARY)
    secrets.reveal("${env:SHORT} ${env:LONG}")
    assert secrets.redact(f"sent {CANARY}, then canary") == "sent ${env:LONG}, then ${env:SHORT}"


def test_a_value_too_short_to_be_a_secret_is_not_taken_for_one(monkeypatch):
    monkeypatch.setenv("FLAG", "on1")
    monkeypatch.setenv("CODE", "7f3a")
    assert secrets.reveal("${env:FLAG}:${env:CODE}") == "on1:7f3a"
    assert secrets.redact("on1 7f3a") == "on1 ${env:CODE}"


def test_a_variable_that_is_set_to_nothing_is_named_like_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", "")
    with pytest.raises(EnvironmentFault, match="reads `ACME_TOKEN`, which is not set"):
        secrets.reveal(REFERENCE)


@pytest.mark.parametrize("before", [0, (1 << 20) - 3, (1 << 20) + 5])
def test_a_secret_is_found_wherever_in_an_output_it_lies(tmp_path, monkeypatch, before):
    """Files are read in blocks of 1 MiB: a value may lie across two of them, beside a shorter secret."""
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    monkeypatch.setenv("CODE", "7f3a1")
    secrets.reveal(REFERENCE + "${env:CODE}")
    staged = tmp_path / "staged"
    (staged / "deep").mkdir(parents=True)
    (staged / "deep" / "weights.bin").write_bytes(b"." * before + CANARY.encode() + b".")
    with pytest.raises(Refused, match=r"weights\.bin holds the value of \$\{env:ACME_TOKEN\}"):
        publish(staged, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
