"""YAML becomes plain values with places; what could hurt or mislead is a problem with a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.spec.document import parse, read
from tunewright.spec.load import load
from tunewright.spec.problems import SpecError


def document(text):
    return parse(text, "client.yaml", Path())


def codes(text):
    try:
        problems = document(text).problems
    except SpecError as error:
        problems = error.problems
    return [(p.code, p.position.line, p.position.column) for p in problems]


def test_values_are_yaml_1_2():
    data = document("a: 1e-4\nb: on\nc: 0o17\nd: 1_000\ne: '1'\nf: 2020-01-01\ng: ~\nh: true\ni: .inf\nj: 010").data
    assert data == {
        "a": 1e-4, "b": "on", "c": 15, "d": 1000, "e": "1", "f": "2020-01-01", "g": None, "h": True,
        "i": float("inf"), "j": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-3", -3), ("+3", 3), ("0x1F", 31), ("-0b101", -5), ("1e5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.5e-3", -5e-4),
        ("1_0.5", 10.5), ("1.2.3", "1.2.3"), ("1:30", "1:30"), (".", "."), ("+", "+"), ("0x", "0x"),
        ("0x_", "0x_"), ("0o8", "0o8"), ("_1", "_1"), ("e5", "e5"), ("1e", "1e"), ("1-2", "1-2"),
        ("-.inf", float("-inf")), ("-.nan", "-.nan"), ("0b2", "0b2"), ("--1", "--1"), ("1e999", float("inf")),
        ("\u0661", "\u0661"),
        ("No", "No"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2_and_nothing_else(text, value):
    found = document(f"a: {text}").data
    assert (type(found["a"]), found["a"]) == (type(value), value)


def test_keys_and_values_know_where_they_stand():
    found = document("a:\n  - {kind: csv, path: x.csv}\n")
    key, value = found.keys[("a", 0, "path")], found.values[("a", 0, "path")]
    assert (key.line, key.column, key.end_column) == (2, 17, 21)
    assert (value.line, value.column, value.end_column) == (2, 23, 28)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: 1\nb: 2\na: 3", [("duplicate-key", 3, 1)]),
        ("a: !!python/object:os.system x", [("yaml-tag", 1, 4)]),
        ("a: !secret x", [("yaml-tag", 1, 4)]),
        ("a: [1, 2\n", [("yaml-syntax", 1, 4)]),
        ("a: 'x\nb: 1\n", [("yaml-syntax", 1, 4)]),
        ("a: [1,\nb: 2\n", [("yaml-syntax", 1, 4)]),
        ("a: {<<: {b: 1}}", [("unknown-key", 1, 5)]),
        ("a: *b", [("yaml-syntax", 1, 4)]),
        ("%A b\n", [("yaml-syntax", 1, 5)]),
        ("a: 1\n---\nb: 2", [("yaml-syntax", 2, 1)]),
        ("a: !x 1\na: 2\n", [("yaml-tag", 1, 4), ("duplicate-key", 2, 1)]),
        ("- 1\n- 2", [("wrong-type", 1, 1)]),
        ("? [1]\n: 2", [("wrong-type", 1, 3)]),
    ],
)
def test_what_is_wrong_with_a_file_has_a_place(text, problems):
    assert codes(text) == problems


def test_an_alias_bomb_is_refused_before_it_fills_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "yaml-too-large" in [code for code, *_ in codes("\n".join(lines))]


def test_places_count_lines_as_yaml_does():
    found = document("a: x\x85y\u2028z\r\nb: 1\rc: 2\n")
    assert [found.keys[(name,)].line for name in "abc"] == [1, 2, 3]
    assert found.sources["client.yaml"][2] == "c: 2"


def test_deep_nesting_is_refused():
    assert "yaml-too-deep" in [code for code, *_ in codes("a: " + "[" * 60 + "]" * 60)]


def test_a_file_that_is_not_there_or_not_text_is_a_problem(tmp_path):
    with pytest.raises(SpecError, match="file-unreadable"):
        read(tmp_path / "no.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SpecError, match="not-utf-8"):
        read(tmp_path / "bytes.yaml")


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


def test_extends_merges_mappings_and_replaces_lists_and_changed_kinds(tmp_path):
    write(tmp_path, "base.yaml", "t: {kind: sft, epochs: 1, rate: 2}\nq: {kind: nf4, dq: true}\nl: [1, 2]\n")
    child = write(tmp_path, "c.yaml", "extends: base.yaml\nt: {epochs: 3}\nq: {kind: none}\nl: [9]\n")
    assert load(child).data == {"t": {"kind": "sft", "epochs": 3, "rate": 2}, "q": {"kind": "none"}, "l": [9]}


def test_an_extended_value_keeps_the_place_and_folder_of_the_file_that_wrote_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "shared/base.yaml", "d: {kind: csv, path: x.csv}\n")
    child = write(tmp_path, "c.yaml", "extends: shared/base.yaml\nd: {kind: csv, limit: 3}\n")
    found = load(child)
    assert found.at(("d", "path")).file == "shared/base.yaml"
    assert found.folder(("d", "path")) == tmp_path / "shared"
    assert found.at(("d", "limit")).file == "c.yaml"


def test_a_replaced_value_leaves_no_place_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "base.yaml", "q: {kind: nf4, dq: true}\nl: [{a: 1}, {b: 2}]\n")
    found = load(write(tmp_path, "c.yaml", "extends: base.yaml\nq: none\nl: [{a: 3}]\n"))
    assert {place.file for place in found.values.values()} == {"c.yaml"}
    assert ("q", "kind") not in found.values
    assert ("l", 1) not in found.values


def test_extending_itself_is_refused(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    with pytest.raises(SpecError, match="extends-cycle"):
        load(write(tmp_path, "b.yaml", "extends: a.yaml\n"))


def test_set_takes_yaml_and_lists_places(tmp_path):
    spec = write(tmp_path, "c.yaml", "t: {kind: sft}\ne: [{name: a}, {name: b}]\nq: nf4\n")
    found = load(spec, ["t.rate=1e-3", "e.1.name=z", "q.dq=false", "t.deep.er=[1, 2]"])
    assert found.data == {
        "t": {"kind": "sft", "rate": 1e-3, "deep": {"er": [1, 2]}},
        "e": [{"name": "a"}, {"name": "z"}],
        "q": {"kind": "nf4", "dq": False},
    }
    place = found.at(("t", "rate"))
    assert (place.file, place.line, place.column) == ("--set t.rate=1e-3", 1, 8)


@pytest.mark.parametrize("override", ["nonsense", "e.7.name=x", "t.kind.more=1", "=3", "t.rate=[1", "t.rate=!x 1"])
def test_a_set_that_has_no_place_is_a_problem(tmp_path, override):
    spec = write(tmp_path, "c.yaml", "t: {kind: sft}\ne: [{name: a}]\n")
    (problem,) = load(spec, [override]).problems
    assert (problem.position.file, problem.position.line) == (f"--set {override}", 1)


def test_a_place_in_a_set_is_that_of_the_whole_override(tmp_path):
    spec = write(tmp_path, "c.yaml", "t: {kind: sft}\n")
    (problem,) = load(spec, ["t.rate=[1, 2"]).problems
    assert (problem.code, problem.position.column) == ("yaml-syntax", 8)


def test_the_problems_of_all_sets_and_of_the_file_come_together(tmp_path):
    spec = write(tmp_path, "c.yaml", "t: 1\nt: 2\n")
    found = load(spec, ["nonsense", "x.1=2"])
    assert [problem.code for problem in found.problems] == ["duplicate-key", "bad-override", "bad-override"]


def test_a_base_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "base.yaml", "a: [\n")
    child = write(tmp_path, "c.yaml", "extends: base.yaml\nb: 1\nb: 2\n")
    with pytest.raises(SpecError) as caught:
        load(child)
    assert [(p.position.file, p.code) for p in caught.value.problems] == [
        ("base.yaml", "yaml-syntax"),
        ("c.yaml", "duplicate-key"),
    ]


def test_a_long_chain_of_files_is_read(tmp_path):
    write(tmp_path, "0.yaml", "a: 0\n")
    for number in range(1, 300):
        write(tmp_path, f"{number}.yaml", f"extends: {number - 1}.yaml\nb{number}: 1\n")
    assert len(load(tmp_path / "299.yaml").data) == 300


def test_what_is_printable_is_what_the_library_says_is():
    """The library's own expression is left out for its compile time: both must agree on every character."""
    from ruamel.yaml.reader import Reader

    from tunewright.spec.compose import _printable

    forbidden = Reader.NON_PRINTABLE
    letters = [*map(chr, range(0x3000)), *map(chr, range(0xD700, 0x10100)), "\U0010ffff"]
    assert [x for x in letters if _printable(x) == bool(forbidden.match(x))] == []
