"""A benchmark goes through a run like any evaluation: base and tuned, pairs, gates, report; and its page is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lmeval_work import benchmark, measured, scores, write_tasks

from fake_project import FIRST_PARTY
from tunewright.errors import BadInput, EnvironmentFault
from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import SpecError
from tunewright.testing.invented import Invented
from tunewright_lmeval import library
from tunewright_lmeval.evaluator import LmEvalOptions

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "public-benchmarks.md").read_text("utf-8")
EVALS = "[{kind: fake}, {kind: lm-eval, name: desk, include: %s, tasks: [desk_queue]%s}]"
GATE = "[{kind: threshold, metric: desk.acc, at_least: 0.0}]"


@pytest.fixture
def host(fakes):
    """The fakes, our own gates, and lm_eval beside them."""
    return Host(blocked=[plugin for plugin in FIRST_PARTY if plugin not in ("basics", "lmeval")])


def project(spec, host, more="", gates=GATE):
    return Project.from_spec(
        spec, overrides=(f"evals={EVALS % (spec.parent / 'tasks', more)}", f"gates={gates}"), host=host
    )


def test_base_and_tuned_are_paired_judged_and_reported(fake_spec, host, tmp_path):
    pytest.importorskip("lm_eval")
    write_tasks(fake_spec.parent / "tasks", ["desk_queue"])
    events = []
    summary = project(fake_spec, host).run(tmp_path / "root", on_event=events.append).summary
    assert summary["status"] == "passed", summary["why"]
    assert summary["scores"]["desk.acc"]["n"] == 8
    steps = Path(summary["run_dir"]) / "steps"
    grades = {}
    for step in ("evaluate-base", "evaluate-tuned"):
        lines = [json.loads(line) for line in (steps / step / "desk.jsonl").read_text().splitlines()]
        assert [line["item"]["id"] for line in lines] == [f"desk_queue:{place}" for place in range(8)]
        grades[step] = lines
    told = json.loads((steps / "evaluate-tuned" / "subject.json").read_text())["asked"]
    assert told["desk"]["identity"] == told["fake"]["identity"] != "base"
    assert ("scoring desk", 24, 24) in {(e["what"], e.get("done"), e.get("of")) for e in events if "what" in e}
    again = project(fake_spec, host).plan()
    assert {"evaluate-base", "evaluate-tuned"} <= again.hits(_store(tmp_path / "root")).keys()


def _store(root):
    from tunewright.store.publish import Store

    return Store(root)


def test_a_task_that_cannot_be_asked_is_said_at_plan(fake_spec, host):
    pytest.importorskip("lm_eval")
    write_tasks(fake_spec.parent / "tasks", ["desk_queue"])
    with pytest.raises(BadInput, match="task `desk_queue` makes no metric `f1`"):
        project(fake_spec, host, ", metrics: [f1]", "[]").plan()


def test_a_missing_extra_is_said_at_plan(fake_spec, host, monkeypatch):
    (fake_spec.parent / "tasks").mkdir()
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r'evaluator `lm-eval`: it needs lm_eval: pip install "tunewright\[lm-'):
        project(fake_spec, host).plan()


def test_a_folder_that_is_not_there_is_said_at_its_line(fake_spec, host):
    with pytest.raises(SpecError, match=r"there is no folder .*tasks"):
        project(fake_spec, host).plan()


@pytest.mark.parametrize("unused", ["format: {kind: fake}", "test: [{kind: fake, path: test.csv}]"])
def test_rows_that_no_task_reads_are_refused(fake_spec, host, unused):
    (fake_spec.parent / "tasks").mkdir()
    with pytest.raises(SpecError, match=r"argument-unused.*evaluator `lm-eval` brings questions of its own"):
        project(fake_spec, host, f", {unused}").plan()


def blocks(kind):
    return dict(re.findall(rf"^```{kind} (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_pages_task_can_be_asked(tmp_path):
    pytest.importorskip("lm_eval")
    own = tmp_path / "desk_routing"
    own.mkdir()
    (own / "desk_routing.yaml").write_text(blocks("yaml")["desk_routing.yaml"])
    for name in ("asked.jsonl", "shown.jsonl"):
        (own / name).write_text(blocks("json")["asked.jsonl"])
    evaluator = benchmark(tmp_path, "desk_routing", few_shot=2)
    assert [item.reference for item in evaluator.items(())] == ["repair", "delivery", "billing"]
    assert set(scores(evaluator, measured(evaluator, Invented(0, None)))) == {"acc"}


def test_the_page_lists_every_option():
    listed = re.findall(r"^\| `(\w+)` \| (?!meaning)", PAGE, re.MULTILINE)
    shared = {"kind", "name", "format", "test", "engine"}
    assert set(listed) == LmEvalOptions.model_fields.keys() - shared
