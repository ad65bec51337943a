"""Examples before a question are no part of it: who learnt the question is told, who learnt the examples is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lmeval_work import DATA, benchmark

from fake_project import FIRST_PARTY, write_rows
from tunewright.host import Host
from tunewright.project import Project

pytest.importorskip("lm_eval", reason="the extra [lm-eval] is not installed")

ASKED = [
    ("the dryer in the cellar stops after one minute and smells of rubber", "repair"),
    ("two men have left a large box at the door of the wrong house", "delivery"),
    ("why are there two sums on the statement that came this morning", "billing"),
]
SHOWN = [
    ("the handle of the oven came off when my son pulled at it, and now nobody here dares to open the door", "repair"),
    ("the courier says that nobody was at home although we all were, and he will not come to us again", "delivery"),
    ("please send the invoice of last month to our new office, for the old one has been closed since May", "billing"),
    ("water drips out of the machine whenever it spins at full speed, so that the kitchen floor is wet", "repair"),
    ("the tracking page has said the same city for nine days now, and nobody answers at the number below", "delivery"),
    ("I have paid by card and still got a reminder this week, with a fee that I do not understand at all", "billing"),
]
TASK = """\
task: desk_cause
description: "Name the queue.\\n\\n"
output_type: multiple_choice
doc_to_text: "Message: {{text}}\\nQueue:"
doc_to_choice: [repair, delivery, billing]
doc_to_target: "{{['repair', 'delivery', 'billing'].index(queue)}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
EVALS = "[{kind: fake}, {kind: lm-eval, name: desk, include: %s, tasks: [desk_cause], few_shot: %d, chat: %s}]"


@pytest.fixture
def tasks(fake_spec):
    folder = fake_spec.parent / "tasks"
    folder.mkdir()
    (folder / "desk_cause.yaml").write_text(TASK + DATA)
    for name, rows in (("rows", ASKED), ("shown", SHOWN)):
        lines = [json.dumps({"text": text, "queue": queue}) for text, queue in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def judged(spec, tasks, root, learnt, few_shot, chat="false"):
    """The verdict of `no_contamination`, and the items that were found."""
    write_rows(spec.parent, "train.csv", learnt)
    host = Host(blocked=[plugin for plugin in FIRST_PARTY if plugin not in ("basics", "lmeval")])
    overrides = (f"evals={EVALS % (tasks, few_shot, chat)}", "gates=[{kind: no_contamination, evaluation: desk}]")
    summary = Project.from_spec(spec, overrides=overrides, host=host).run(root).summary
    ledger = json.loads((Path(summary["run_dir"]) / "steps/contamination/contamination.json").read_text())
    found = ledger["evaluations"]["desk"]["found"]
    return summary["status"], {one["id"]: one["row"] for one in found}, ledger


@pytest.mark.parametrize("chat", ["false", "true"])
def test_a_learnt_question_is_found_behind_its_examples(fakes, fake_spec, tasks, tmp_path, chat):
    learnt = [*SHOWN, ASKED[1]]
    status, found, _ = judged(fake_spec, tasks, tmp_path / "root", learnt, 3, chat)
    assert (status, found) == ("failed", {"desk_cause:1": "train.csv:8"})


def test_who_learns_what_the_examples_are_drawn_from_has_learnt_no_question(fakes, fake_spec, tasks, tmp_path):
    status, found, _ = judged(fake_spec, tasks, tmp_path / "root", SHOWN, 1)
    assert (status, found) == ("passed", {})


def test_an_item_is_the_same_whatever_stands_before_it(fakes, fake_spec, tasks, tmp_path):
    looked = [
        judged(fake_spec, tasks, tmp_path / str(few_shot), SHOWN, few_shot)[2]["evaluations"]["desk"]["looked"]
        for few_shot in (0, 3)
    ]
    assert looked[0] == looked[1]  # by which the ledger of a parent knows it again


def test_what_is_asked_has_its_examples_and_what_is_compared_has_none(tasks):
    for item, (text, _) in zip(benchmark(tasks, "desk_cause", few_shot=2).items(()), ASKED, strict=True):
        assert item.prompt.count("Message:") == 3 and item.prompt.startswith("Name the queue.")
        assert item.own == f"Message: {text}\nQueue:"
