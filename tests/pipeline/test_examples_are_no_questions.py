"""Examples before a question: none of them is a question itself, however it is written and whatever else is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.errors import TunewrightError
from tunewright.host import Host
from tunewright.project import Project

QUOTING = "we wrote twice that the courier has lost the grey parcel on its way and want help"
QUOTED = "the courier has lost the grey parcel on its way"


@pytest.fixture
def host(fakes):
    return Host(blocked=FIRST_PARTY)


def write(spec, train, test):
    (spec.parent / "train.csv").write_text(train)
    (spec.parent / "test.csv").write_text(test)


def shown(summary, step="evaluate-few_shot_1"):
    """What stands before the first question."""
    line = (Path(summary["run_dir"]) / "steps" / step / "fake.jsonl").read_text().splitlines()[0]
    return [turn["content"] for turn in json.loads(line)["item"]["prompt"]][1:-1]


def test_a_question_is_no_example_whatever_another_evaluation_reads(fake_spec, host, tmp_path):
    test = "text,queue,other\nthe parcel never came,delivery,a\nthe pump is broken,repair,a\n"
    write(fake_spec, test.replace(",a\n", ",z\n") + "I want my money back,refund,z\n", test)
    evals = "evals=[{kind: fake}, {kind: fake, name: mine, format: {kind: fake, answer: other}}]"
    with pytest.warns(match="2 of 2 test rows"):
        run = Project(fake_spec, [evals, "gates=[]", "baselines=[{few_shot: 1}]"], host).run(tmp_path / "root")
    assert shown(run.summary) == ["I want my money back", "refund"]


def test_a_question_that_is_written_otherwise_is_no_example(fake_spec, host, tmp_path):
    rows = "text,queue\nThe parcel NEVER came!,delivery\nI want my money back,refund\n"
    write(fake_spec, f"{rows}{QUOTING},delivery\n", f"text,queue\nthe parcel never came,delivery\n{QUOTED},delivery\n")
    with pytest.warns(match="stand among"):
        run = Project(fake_spec, ["gates=[]", "baselines=[{few_shot: 1}]"], host).run(tmp_path / "root")
    assert shown(run.summary) == ["I want my money back", "refund"]


def test_a_row_that_is_learnt_twice_is_one_example(fake_spec, host, tmp_path):
    write(fake_spec, "text,queue\nmy parcel is late,delivery\n", "text,queue\nthe pump is broken,repair\n")
    fake_spec.write_text(fake_spec.read_text().replace("path: train.csv", "path: train.csv, epochs: 2"))
    with pytest.raises(TunewrightError, match="1 training rows"):
        Project(fake_spec, ["gates=[]", "baselines=[{few_shot: 2}]"], host).run(tmp_path / "root")
