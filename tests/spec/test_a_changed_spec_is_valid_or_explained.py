"""Whatever is dropped, renamed, retyped, doubled or swapped in a good spec: it is valid, or it is said where not."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_project import FAKE_SPEC, FIRST_PARTY, write_fake_spec
from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.compose import lines_of
from tunewright.spec.document import parse
from tunewright.spec.dump import dump
from tunewright.spec.problems import render_github, render_json, render_text

ROOT = Path(__file__).parents[2]
TEXTS = {
    "fake": FAKE_SPEC,
    "quickstart": (ROOT / "specs/quickstart/quickstart.yaml").read_text(),
    "banking77": (ROOT / "tests/realdata/banking77.yaml")
    .read_text()
    .replace("../../../shared/data/support-banking77/", "")
    .replace("category", "queue")
    .replace("card_arrival", "delivery")
    .replace("card_not_working", "repair"),
}
VALUES = [
    None, True, False, 0, -1, 1, 7, 10**30, 0.5, 1e308, float("inf"), float("nan"), "", " ", "x", "none", "lora", "csv",
    "train.csv", ".", "/", "../..", "~nobody-here/x", "x" * 200, "{", "{text}", "{text.x}", "{0}", "${env:X}", "a.b",
    "heldout.exact_match", "é語\U0001f600", "2020-01-01", "1e3", "yes", [], {}, [None], [[]], ["x"], [{"kind": "csv"}],
    {"kind": None}, {"kind": "none"}, {"kind": "lora"}, {"kind": "sft"}, {"type": "sft"}, {"": ""}, {"a": {"b": [1]}},
]  # fmt: skip
KEYS = [
    "kind",
    "x",
    "",
    "args",
    "where",
    "path",
    "name",
    "epochs",
    "lora_r",
    "num_epochs",
    "extends",
    "type",
    "<<",
    "é",
]
PIECES = ["", ":", ": ", "- ", "{", "}", "[", "]", '"', "'", "#", " ", "\n", "\t", "&a ", "*a", "!x ", "|\n", ">", "%",
          "~", "\r", "\u2028", "\x85", "\ufeff", "\x00", "é", "語", "<<: ", "?", "---\n", "\\", ", "]  # fmt: skip
BOUNDS = settings(
    max_examples=120, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture
def check(tmp_path, monkeypatch, fakes):
    """Validates a text in a folder that holds every spec's data, and looks at what comes of it."""
    monkeypatch.chdir(tmp_path)
    write_fake_spec(tmp_path)
    hosts = {True: Host(blocked=FIRST_PARTY), False: Host()}

    def one(name, text):
        path = tmp_path / "client.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        problems = Project.from_spec(path, host=hosts[name == "fake"]).validate()
        lines = lines_of(text.removeprefix("\ufeff"))
        for problem in problems:
            place = problem.position
            assert place.file == "client.yaml"
            assert 1 <= place.line <= len(lines), problem
            assert 1 <= place.column <= len(lines[place.line - 1]) + 1, problem
            assert place.column < place.end_column <= len(lines[place.line - 1]) + 2, problem
            assert problem.code
            assert problem.message
        render_text(problems, {"client.yaml": lines}), render_json(problems), render_github(problems)
        return problems

    return one


def ways(value, key=()):
    """Every way into a value, its own first."""
    yield key
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from ways(inner, (*key, step))


def at(data, way):
    for step in way:
        data = data[step]
    return data


def put(data, way, value):
    if not way:
        return value
    at(data, way[:-1])[way[-1]] = value
    return data


def renamed(mapping, old, new):
    items = [(new if key == old else key, value) for key, value in mapping.items()]
    mapping.clear()
    mapping.update(items)


@st.composite
def changes(draw):
    """A good spec with one to three changes of its data."""
    name = draw(st.sampled_from(sorted(TEXTS)))
    data = parse(TEXTS[name], "x.yaml", Path()).data
    for _ in range(draw(st.integers(1, 3))):
        found = [way for way in ways(data) if way]
        if not found:
            break
        way = draw(st.sampled_from(found))
        parent, step = at(data, way[:-1]), way[-1]
        change = draw(st.sampled_from(["drop", "rename", "retype", "double", "swap"]))
        if change == "drop":
            del parent[step]
        elif change == "rename" and isinstance(parent, dict):
            renamed(parent, step, draw(st.sampled_from(KEYS)))
        elif change == "double" and isinstance(parent, list):
            parent.insert(step, parent[step])
        elif change == "swap":
            other = draw(st.sampled_from(found))
            if other[: len(way)] != way and way[: len(other)] != other:
                first, second = at(data, way), at(data, other)
                data = put(put(data, way, second), other, first)
        else:
            data = put(data, way, deepcopy(draw(st.sampled_from(VALUES))))
    return name, dump(data)


@st.composite
def edits(draw):
    """A good spec with one to three changes of its text."""
    name = draw(st.sampled_from(sorted(TEXTS)))
    text = TEXTS[name]
    for _ in range(draw(st.integers(1, 3))):
        lines = text.splitlines(keepends=True) or [""]
        here, there = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        change = draw(st.sampled_from(["drop", "double", "swap", "insert", "cut", "indent"]))
        if change == "drop":
            del lines[here]
        elif change == "double":
            lines.insert(there, lines[here])
        elif change == "swap":
            lines[here], lines[there] = lines[there], lines[here]
        elif change == "indent":
            lines[here] = " " * draw(st.integers(0, 6)) + lines[here].lstrip(" ")
        text = "".join(lines)
        place = draw(st.integers(0, len(text)))
        if change == "insert":
            text = text[:place] + draw(st.sampled_from(PIECES)) + text[place:]
        elif change == "cut":
            text = text[:place] + text[place + draw(st.integers(1, 40)) :]
    return name, text


def test_the_unchanged_specs_are_valid(check):
    assert [check(name, text) for name, text in TEXTS.items()] == [[], [], []]


@BOUNDS
@given(changed=changes())
def test_a_spec_whose_data_is_changed(check, changed):
    check(*changed)


@BOUNDS
@given(changed=edits())
def test_a_spec_whose_text_is_changed(check, changed):
    check(*changed)
