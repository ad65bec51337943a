"""`compare`: one table for all runs in 80 columns, what two differ in below it, one JSON object on request."""

from __future__ import annotations

import json
import sys

import pytest

import fake_project
from fake_project import FIRST_PARTY
from tunewright.cli import main
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.project import Project


@pytest.fixture
def printed(fake_spec, fakes, tmp_path, monkeypatch, capsys):
    """Two runs, `one` and `two`, of which the later has learnt other rows; what `compare WORDS…` prints of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    host = Host(blocked=FIRST_PARTY)
    Project(fake_spec, [], host).run("one")
    train = fake_spec.parent / "train.csv"
    train.write_text(train.read_text().replace(",refund", ",repair").replace(",delivery", ",repair"))
    Project(fake_spec, ["trainer.learning_rate=2"], host).run("two")
    capsys.readouterr()
    blocked = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tunewright", "compare", *words, *blocked])
        code = main.app(standalone_mode=False)
        return code, capsys.readouterr().out

    return run


def test_runs_stand_below_each_other_in_80_columns(printed):
    _, shown = printed("one", "two", "one")
    lines = shown.splitlines()
    assert all(len(line) <= 80 for line in lines if "tmp" not in line)  # a path is one word
    assert [line[:1] for line in lines[:3]] == ["A", "B", "C"]
    table = [line.split() for line in lines[4:7]]
    assert table[0] == ["fake.right", "A", "1.000"]
    assert table[1][:4] == ["B", "3", "0.333", "-0.667"]
    assert table[2][:4] == ["C", "3", "1.000", "+0.000"]
    assert table[2][-2:] == ["1", "1"]  # the same answers: no chance, no difference


def test_what_differs_stands_beside_the_rows_that_flipped(printed):
    _, shown = printed("one", "two", "--why", "--rows", "1")
    words = [line.split() for line in shown.splitlines()]
    assert ["spec", "trainer.learning_rate", "0.5", "2.0", "spec"] in words
    assert "rows of prepare: 2 in both, 4 only in A, 4 only in B" in shown
    assert "fake.right: of 3 items B does 0 better and 2 worse; 2 are answered otherwise" in shown
    assert "worse: test.csv:2, 1 → 0; other from token 0 on" in shown
    assert "and 1 more that B does worse: raise --rows" in shown
    assert "test.csv:4" not in shown


def test_where_no_item_is_better_by_itself_nothing_else_is_printed_of_them(fakes, monkeypatch, request):
    import tunewright_fakes

    monkeypatch.setattr(tunewright_fakes.FakeEvaluator, "summaries", lambda self: {"all": lambda graded: len(graded)})
    monkeypatch.setattr(fake_project, "FAKE_SPEC", fake_project.FAKE_SPEC.replace("fake.right", "fake.all"))
    _, shown = request.getfixturevalue("printed")("one", "two", "--why")
    assert "fake: of 3 items 2 are answered otherwise; its scores are made of all" in shown
    assert "worse:" not in shown


def test_json_is_one_object_with_all_of_it(printed):
    _, shown = printed("one", "two", "--why", "--rows", "1", "--json")
    told = json.loads(shown)
    assert told["scores"]["fake.right"] == [1, pytest.approx(1 / 3)]
    assert told["against_first"][0]["scores"]["fake.right"]["delta"] == pytest.approx(-2 / 3)
    flips = told["why"]["flips"]["fake"]
    assert (flips["lost_count"], len(flips["lost"]), flips["won_count"]) == (2, 1, 0)
    assert told["why"]["differing"]["spec"][0]["set_by"] == ["spec", "spec"]


def test_why_is_a_matter_of_two_runs(printed):
    with pytest.raises(BadInput, match="between two runs, not 3") as refused:
        printed("one", "two", "one", "--why")
    assert refused.value.exit_code == 2


@pytest.fixture
def run(fake_spec, fakes, tmp_path, monkeypatch, capsys):
    """What `run client.yaml WORDS…` ends with and prints."""
    monkeypatch.chdir(tmp_path)
    blocked = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tunewright", "run", str(fake_spec), *words, *blocked])
        code = main.app(standalone_mode=False)
        return code, capsys.readouterr().out

    return call


def test_a_spec_runs_under_several_seeds_and_its_own_is_the_latest(run, tmp_path):
    code, shown = run("--seeds", "3", "--out", "root", "--json", "--set", "seed=5")
    told = json.loads(shown)
    assert code == 0
    assert [one["seed"] for one in told["compared"]["runs"]] == [5, 6, 7]
    assert told["compared"]["seeds"]["fake.right"]["seeds"] == 3
    assert told["run_dir"] == told["compared"]["runs"][0]["run_dir"] == str((tmp_path / "root/latest").resolve())
    assert {step["name"]: step["status"] for step in told["steps"]}["evaluate-base"] == "cached"


def test_a_gate_that_fails_under_any_seed_fails_the_whole(run):
    code, shown = run("--seeds", "2", "--set", "gates.0.at_least=2")
    assert code == 1
    assert shown.count("by seed: +1.000 over the base") == 1
    assert "failed: " in shown


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("data.test={kind: split, fraction: 0.5}", "the seed draws the rows that `fake` asks"),
        ("data.test.0.sample=2", "the seed draws the rows that `fake` asks"),
        ("evals=[]", "nothing is asked"),
    ],
)
def test_seeds_that_would_be_asked_other_things_are_refused_before_a_training(run, tmp_path, change, why):
    with pytest.raises(BadInput, match=why):
        run("--seeds", "2", "--out", "root", "--set", change, *(["--set", "gates=[]"] if "evals" in change else []))
    assert not (tmp_path / "root").exists()
