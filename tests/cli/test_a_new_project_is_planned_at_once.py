"""`init`: what it writes is valid as it stands, and is never written over what is there."""

from __future__ import annotations

import pytest

from tunewright.cli.init import PROJECTS, new_project, templates
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.project import Project
from typed import typed


@pytest.mark.parametrize("template", templates())
def test_what_it_writes_is_valid(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed("init", "My Desk", "--template", template)
    assert done.returncode == 0, done.stderr
    assert "My Desk/my-desk.yaml" in done.stdout
    checked = typed("validate", "My Desk/my-desk.yaml")
    assert (checked.returncode, "1 spec: fine" in checked.stdout) == (0, True), checked.stdout
    assert not [file.name for file in (tmp_path / "My Desk").iterdir() if "@" in file.read_text()]


def test_that_of_a_domain_plans_suites_and_gates_on_what_they_show(tmp_path):
    pytest.importorskip("trl")
    new_project(tmp_path / "desk", "domain")
    one = Project.from_spec(tmp_path / "desk/desk.yaml", host=Host())
    planned = one.plan()
    assert {name: shown.whole.items > 2 for name, shown in planned.visible.items()} == {
        "heldout": True, "support": True, "support-choice": True, "general": True,
    }  # fmt: skip
    assert planned.repeats == ()
    gates = [gate.kind for gate in planned.resolved.gates]
    assert {"non_inferior", "no_contamination"} <= set(gates)


def test_nothing_is_written_over_nor_left_by_halves(tmp_path):
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk/test.csv").write_text("mine")
    with pytest.raises(BadInput, match=r"test\.csv is there already"):
        new_project(tmp_path / "desk", "plain")
    assert [file.name for file in (tmp_path / "desk").iterdir()] == ["test.csv"]


def test_a_template_or_a_name_that_is_none_is_said(tmp_path):
    with pytest.raises(BadInput) as told:
        new_project(tmp_path / "desk", "domian")
    assert "did you mean `domain`?" in told.value.fix
    with pytest.raises(BadInput, match="gives no name"):
        new_project(tmp_path / "…", "plain")
    assert list(tmp_path.iterdir()) == []


def test_every_template_is_told_of_in_the_help():
    said = " ".join(typed("init", "--help").stdout.split())
    assert all(name in said for name in templates())
    assert len(templates()) == 2 and PROJECTS.is_dir()
