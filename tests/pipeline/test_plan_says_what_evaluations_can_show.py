"""`plan` says, before anything is trained, how small a gain the questions can show."""

from __future__ import annotations

import json

import pytest

from fake_project import FIRST_PARTY
from tunewright.cli.commands import show_plan
from tunewright.host import Host, hookimpl
from tunewright.parts.evaluator import Item, mean_of


@pytest.fixture
def plan(fake_spec, fakes, capsys, monkeypatch):
    """What `plan` prints of 40 rows in 10 groups of the evaluator `parted`, and its JSON; `told` is what it makes."""
    import tunewright_fakes

    rows = "".join(f"question {number},{'repair' if number % 2 else 'refund'}\n" for number in range(40))
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + rows)

    class Options(tunewright_fakes.EvaluatorOptions):
        kind: str = "parted"

    def show(grouped=False, tasks=False, summaries=None, asked=40):
        class Parted(tunewright_fakes.FakeEvaluator):
            kind, Options = "parted", None

            def items(self, data):
                for place, row in enumerate(data[:asked]):
                    group = f"document {place % 10}" if grouped else None
                    task = ("route" if place < 30 else "judge") if tasks else None
                    yield Item(row.id, row.origin, row.example.prompt, row.example.answer, group, task=task)

            def summaries(self):
                return summaries or {"right": mean_of("right")}

        Parted.Options = Options
        monkeypatch.setattr(tunewright_fakes, "Parted", Parted, raising=False)

        class Plugin:
            @hookimpl
            def tunewright_backends(self):
                return {"evaluator/parted": "tunewright_fakes:Parted"}

        def printed(as_json):
            host = Host(blocked=FIRST_PARTY, extra={"parted": Plugin()})
            changed = ["evals=[{kind: parted}]", "gates=[]"]
            show_plan(fake_spec, changed, fake_spec.parent / "runs", host, as_json)
            return capsys.readouterr().out

        lines = printed(False).splitlines()
        at = next(place for place, line in enumerate(lines) if line.startswith("smallest visible effect"))
        return lines[at : at + 3], json.loads(printed(True))["smallest_visible_effect"]["parted"]

    return show


def test_forty_items_hide_a_gain_under_fifteen_points(plan):
    lines, found = plan()
    assert (
        lines[0]
        == "smallest visible effect  parted: 40 items, of right or wrong answers a gain under 15 points stays invisible"
    )
    assert lines[1].startswith("  four runs of five show one of 19.")
    assert (found["items"], found["clusters"], found["points"]) == (40, 40, 15.0)
    assert found["likely_points"] > 15


def test_items_of_a_group_are_counted_once(plan):
    lines, found = plan(grouped=True)
    assert "40 items in 10 groups, of right or wrong answers a gain under 60 points" in lines[0]
    assert (found["items"], found["clusters"], found["points"]) == (40, 10, 60.0)


def test_each_task_is_told_by_itself(plan):
    lines, found = plan(tasks=True)
    assert lines[2] == "  of its tasks alone: route 20 points, judge 60 points"
    assert found["tasks"]["judge"] == {"items": 10, "clusters": 10, "points": 60.0, "likely_points": 67.4}


def test_a_score_that_is_no_share_gets_no_figure(plan):
    lines, found = plan(summaries={"length": lambda rows: max(row.grades["length"] for row in rows)})
    assert "it depends on how they spread" in lines[0]
    assert (found["items"], found["points"], found["likely_points"]) == (40, None, None)


def test_five_items_can_show_nothing(plan):
    lines, found = plan(asked=5)
    assert lines[0].endswith("5 items, too few to show any")
    assert found["points"] is None
