"""`validate` of several specs: every problem of every file, in order, in each of the forms."""

from __future__ import annotations

import json

import pytest

from fake_project import write_fake_spec
from tunewright.cli.validate import validate_all


@pytest.fixture
def specs(tmp_path, cache, monkeypatch):
    """A good spec, one with two mistakes and one that is not YAML."""
    monkeypatch.chdir(tmp_path)
    good = write_fake_spec(tmp_path).relative_to(tmp_path)
    text = good.read_text()
    for name, changed in (
        ("b.yaml", text.replace("seed: 7", "sede: 7").replace("learning_rate: 0.5", "learning_rate: fast")),
        ("a.yaml", text.replace("name: acme", "name: [acme")),
    ):
        (tmp_path / name).write_text(changed)
    return [good, good.with_name("b.yaml"), good.with_name("a.yaml")]


EXPECTED = [("b.yaml", 10, 38, "wrong-type"), ("b.yaml", 13, 1, "unknown-key"), ("a.yaml", 3, 6, "yaml-syntax")]


def test_as_text_with_carets_and_a_count(specs, fake_host, capsys):
    assert validate_all(specs, "text", [], fake_host) == 2
    shown = capsys.readouterr().err.splitlines()
    places = [f"{file}:{line}:{column}: error[{code}]" for file, line, column, code in EXPECTED]
    assert sorted(line.partition("]")[0] + "]" for line in shown if "error[" in line) == sorted(places)
    at = shown.index(next(line for line in shown if line.startswith("b.yaml:13:1")))
    assert shown[at + 1 : at + 3] == ["  13 | sede: 7", "     | ^^^^ did you mean `seed`?"]
    assert shown[-1] == "3 specs: 3 problems"


def test_as_json_for_machines(specs, fake_host, capsys):
    assert validate_all(specs, "json", [], fake_host) == 2
    found = json.loads(capsys.readouterr().out)
    assert sorted((p["file"], p["line"], p["column"], p["code"]) for p in found) == sorted(EXPECTED)
    assert "did you mean `seed`?" in [p["suggestion"] for p in found]


def test_as_annotations_for_github(specs, fake_host, capsys):
    assert validate_all(specs, "github", [], fake_host) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(EXPECTED)
    for file, line, column, code in EXPECTED:
        start = f"::error file={file},line={line},col={column},endColumn="
        assert any(one.startswith(start) and f",title={code}::" in one for one in lines)


def test_good_specs_are_counted(specs, fake_host, capsys):
    assert validate_all(specs[:1] * 3, "text", [], fake_host) == 0
    assert capsys.readouterr().out == "3 specs: fine\n"
    assert validate_all(specs[:1], "json", [], fake_host) == 0
    assert json.loads(capsys.readouterr().out) == []
