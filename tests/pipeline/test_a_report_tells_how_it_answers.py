"""A whole run on fakes: what its evidence, its summary, its report and the terminal tell beyond the scores."""

from __future__ import annotations

import html
import importlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from fake_project import FIRST_PARTY
from tunewright.cli.tables import print_result
from tunewright.host import Host
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.pipeline.blame import flipped
from tunewright.pipeline.tasks.report import MOST_SHOWN, SHOWN, Report
from tunewright.project import Project
from tunewright.report.page import chance


@pytest.fixture
def spec(fakes, fake_spec):
    rows = {"delivery": "the parcel never came", "repair": "the pump is broken", "refund": "give me my money"}
    test = "".join(f"{text} {n},{queue}\n" for n in range(4) for queue, text in rows.items())
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + test)
    return fake_spec


@pytest.fixture
def run(spec, tmp_path):
    return run_of(spec, tmp_path)


def run_of(spec, tmp_path):
    return Project(spec, ["baselines=[{few_shot: 3}]"], Host(blocked=FIRST_PARTY)).run(tmp_path / "root").summary


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_it_is_told_everywhere(run, capsys):
    evidence = json.loads((Path(run["run_dir"]) / "steps" / "gate" / "evidence.json").read_text())
    assert run["answers"] == evidence["answers"]
    assert run["readings"] == evidence["readings"]
    missed = (
        "the base has 0.0 % of fake.right, and 0.0 % with 3 examples: it does not merely miss the form of the answer"
    )
    assert run["readings"] == [missed]
    habits = run["answers"]["fake"]
    assert habits["base"]["items"] == habits["tuned"]["items"] == 12
    page = (Path(run["run_dir"]) / "report.html").read_text()
    seen = text_of(page[page.index("<body>") :])
    for title in ("Against other baselines few_shot_3", "Labels of fake", "How it answers", "What was taken for what"):
        assert title in seen
    for sentence in run["readings"]:
        assert sentence in seen
    assert f"fake base 12 {habits['base']['tokens']:.1f}" in seen
    print_result(
        {**run, "readings": ["a reading"], "answers": {"fake": {**habits, "base": {**habits["base"], "cut": 2}}}}
    )
    said = capsys.readouterr().out
    assert "a reading" in said
    assert "answers  fake: cut by the token limit 2 (base) and 0 (tuned) of 12" in " ".join(said.split("\n"))


def test_each_baseline_is_a_family_of_its_own(spec, tmp_path, capsys):
    asked = ["evals=[{kind: fake}, {kind: fake, name: other}]", "baselines=[{few_shot: 2}, {few_shot: 3}]"]
    summary = Project(spec, asked, Host(blocked=FIRST_PARTY)).run(tmp_path / "root").summary
    families = [summary["scores"], *summary["baselines"].values()]
    assert len(families) == 3
    for family in families:
        (first, p), (second, same) = ((name, score["p_value"]) for name, score in family.items())
        assert p == same < 0.25
        assert [family[name]["p_adjusted"] for name in (first, second)] == [2 * p] * 2
        assert family[first]["p_mid"] < p
    print_result(summary)
    assert capsys.readouterr().out.count("p Holm") == 3
    page = text_of((Path(summary["run_dir"]) / "report.html").read_text())
    assert page.count("p Holm fake.right") == 3
    score = summary["scores"]["fake.right"]
    told = f"{chance(score['p_value'])} mid {chance(score['p_mid'])} {chance(score['p_adjusted'])}"
    assert page.count(told) >= 2


def test_the_rows_won_are_marked_where_the_answers_part(run):
    steps = Path(run["run_dir"]) / "steps"
    base, tuned = (
        [json.loads(line) for line in (steps / f"evaluate-{side}" / "fake.jsonl").read_text().splitlines()]
        for side in ("base", "tuned")
    )
    before, after = next(both for both in zip(base, tuned, strict=True) if both[0]["grades"] != both[1]["grades"])
    page = (Path(run["run_dir"]) / "report.html").read_text()
    ids = zip(before["answer"]["ids"], after["answer"]["ids"], strict=False)
    apart = [place for place, (one, other) in enumerate(ids) if one != other]
    assert f"apart from token {apart[0] + 1}" in text_of(page)
    assert html.escape(before["answer"]["text"][:1], quote=False) in page
    assert page.count('<em class="apart">') >= 2


def test_each_evaluation_shows_rows_of_its_own_by_turns_of_its_tasks():
    def graded(place, right, task):
        answer = Completion([place, int(right)], "yes" if right else "no", "terminator", [])
        item = Item(f"i{place}", f"t.csv:{place}", "", "yes", task=task)
        return Graded(item, answer, {"wrong": float(not right), "right": float(right)})

    def answers(count):
        tasks = ["first"] * (count - 2) + ["second"] * 2
        return [[graded(place, side == (place != 3), task) for place, task in enumerate(tasks)] for side in (0, 1)]

    def of(*evaluations):
        return Report({}, ())._examples({Evaluation(name, asks): answers(count) for name, count, asks in evaluations})

    (found,) = of(("one", 40, True)).values()
    assert (found["won_count"], found["lost_count"], len(found["won"])) == (39, 1, SHOWN)
    origins = [row["origin"] for row in found["won"]]
    assert origins[:5] == ["t.csv:0", "t.csv:38", "t.csv:1", "t.csv:39", "t.csv:2"]
    assert [row["origin"] for row in found["lost"]] == ["t.csv:3"]
    several = of(*((f"e{n}", 40, n < 4) for n in range(5)))
    assert list(several) == ["e0", "e1", "e2", "e3"]
    assert [len(them["won"]) for them in several.values()] == [MOST_SHOWN // 4] * 4
    assert [them["won_count"] for them in several.values()] == [39] * 4
    many = of(*((f"e{n}", 40, True) for n in range(MOST_SHOWN + 6)))
    assert {len(them["won"]) for them in many.values()} == {1}


def by(metrics, *pairs):
    """What the page shows of rows with these grades of base and tuned, by an evaluation with these metrics."""
    asked = [[Graded(Item(f"i{n}", f"t.csv:{n}", "", "yes"), Completion([n], "", "terminator", []), grades)
              for n, grades in enumerate(side)] for side in zip(*pairs, strict=True)]  # fmt: skip
    found = Report({}, ())._examples({Evaluation("e", metrics=metrics): asked}).get("e")
    return found and (found["metric"], *([row["origin"] for row in found[side]] for side in ("won", "lost")))


def test_a_row_is_won_or_lost_by_the_first_metric_alone():
    """As `compare --why` has it: by the sum of both a row that lost its fields and became valid JSON was won."""
    both = ("json_fields", "valid_json")
    pairs = [
        ({"json_fields": 1.0, "valid_json": 0.0}, {"json_fields": 0.4, "valid_json": 1.0}),
        ({"json_fields": 0.4, "valid_json": 1.0, "tied": 1.0}, {"json_fields": 0.4, "valid_json": 0.0, "tied": 0.0}),
    ]
    assert by(both, *pairs) == ("json_fields", [], ["t.csv:0"])
    sides = [[Graded(Item("i", "", "", ""), Completion([1], "", "terminator", []), grades)] for grades in pairs[0]]
    assert len(flipped(*sides, "json_fields", less=False).lost) == 1
    assert by(("f1",), *pairs) is None  # made of all rows at once: none is better or worse by itself


def test_rows_of_tasks_with_metrics_of_their_own_are_each_told_by_theirs():
    pairs = [({"a.right": 0.0}, {"a.right": 1.0}), ({"b.right": 1.0}, {"b.right": 0.0})]
    assert by(("a.right", "b.right"), *pairs) == ("a.right, b.right", ["t.csv:0"], ["t.csv:1"])


class Evaluation(NamedTuple):
    """As far as the rows won and lost look at it."""

    name: str
    asks: bool = True
    metrics: tuple[str, ...] = ("wrong", "right")

    def summaries(self):
        return dict.fromkeys(self.metrics)

    def lower_is_better(self):
        return frozenset({"wrong"})


def test_examples_are_held_against_the_bare_base(spec, tmp_path, monkeypatch):
    fakes = importlib.import_module("tunewright_fakes")
    nouns, alone = {"parcel": "delivery", "pump": "repair", "money": "refund"}, fakes.Model.answer

    def answer(model, prompt):
        """As the fake does; after examples, as one who has understood them."""
        if prompt.count(fakes.ROLES["user"]) == 1:
            return alone(model, prompt)
        return next(label for noun, label in nouns.items() if noun in fakes.words(prompt))

    monkeypatch.setattr(fakes.Model, "answer", answer)
    much = "the base has 0.0 % of fake.right, and 100.0 % with 3 examples: much of the gain is the form of the answer"
    assert run_of(spec, tmp_path)["readings"] == [much]


@pytest.mark.parametrize(("sure", "told"), [((0.4, 0.9), True), ((0.4, 1.0 + 1e-12), True), ((40.0, 90.0), False)])
def test_a_calibration_is_drawn_of_shares_alone(spec, tmp_path, monkeypatch, sure, told):
    fakes = importlib.import_module("tunewright_fakes")

    def grade(_, item, answer):
        right = float(answer.text == item.reference)
        return {"right": right, "accuracy": right, "confidence": sure[int(right)]}

    monkeypatch.setattr(fakes.FakeEvaluator, "grade", grade)
    page = (Path(run_of(spec, tmp_path)["run_dir"]) / "report.html").read_text()
    assert ("How sure, and how right" in page) is told
    assert ("base 12 0.400 0.000" in text_of(page)) is told
