"""A suite, a benchmark of the client's own in one block, and choices by likelihood go through a whole run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tunewright_suites
from fake_project import FIRST_PARTY
from tunewright import blame, compare
from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import SpecError

OWN = (
    "{{kind: heldout, name: mine, test: [{{kind: jsonl, path: '{path}'}}], "
    "format: {{kind: chat, prompt: '{{question}}', completion: '{{answer}}'}}, "
    "metrics: [token_f1, numeric], tolerance: 0.5}}"
)


@pytest.fixture
def host(fakes):
    """The fakes, and the evaluations, files and gates of our own beside them."""
    others = [plugin for plugin in FIRST_PARTY if plugin not in ("basics", "files", "suites")]
    extra = {} if "suites" in FIRST_PARTY else {"suites": tunewright_suites}
    return Host(blocked=others, extra=extra)


def run(spec, host, root, evals, gates="[]"):
    done = Project.from_spec(spec, overrides=(f"evals={evals}", f"gates={gates}"), host=host).run(root)
    return done.summary


def test_a_suite_is_asked_of_base_and_tuned(fake_spec, host, tmp_path):
    summary = run(fake_spec, host, tmp_path / "root", "[{kind: suite, name: medical}]")
    assert set(summary["scores"]) == {
        f"medical.{metric}" for metric in ("score", "reading", "urgency", "safety", "exact_match", "over_refusal")
    }
    rows = Path(summary["run_dir"], "steps", "evaluate-tuned", "medical.jsonl").read_text().splitlines()
    assert len(rows) == 48
    assert json.loads(rows[0])["item"]["task"] == "reading"
    page = Path(summary["run_dir"], "report.html").read_text()
    assert re.findall("<h2>(Labels of .*)</h2>", page) == ["Labels of medical.urgency"]


def test_a_suites_labels_are_scored_beside_it(fake_spec, host, tmp_path):
    evals = "[{kind: suite, name: medical}, {kind: suite-choice, suite: medical}]"
    summary = run(fake_spec, host, tmp_path / "root", evals)
    found = {name: score for name, score in summary["scores"].items() if name.startswith("medical-choice.")}
    assert found.keys() == {"medical-choice.accuracy", "medical-choice.urgency"}
    assert found["medical-choice.urgency"]["n"] == summary["scores"]["medical.urgency"]["n"] < 48
    rows = Path(summary["run_dir"], "steps", "evaluate-base", "medical-choice.jsonl").read_text().splitlines()
    assert {json.loads(row)["item"]["task"] for row in rows} == {"urgency"}


SUITE = """\
name: desk
version: "1"
licence: MIT
canary: c-1234
about: What a desk is asked.
tasks:
  route: {form: label, instruction: Route it., labels: [delivery, repair, refund]}
"""


def write_suite(folder):
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE)
    asked = [("the parcel never came", "delivery"), ("the pump is broken", "repair"), ("give money", "refund")]
    lines = [{"id": f"desk-{n}", "task": "route", "text": text, "reference": queue}
             for n, (text, queue) in enumerate(asked)]  # fmt: skip
    (folder / "suite.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_runs_with_a_suite_of_ones_own_are_compared_in_any_folder(fake_spec, host, tmp_path, monkeypatch):
    write_suite(fake_spec.parent / "own")
    evals = "evals: [{kind: suite, path: own}]"  # in the spec: a path of `--set` is relative to where it is typed
    fake_spec.write_text(fake_spec.read_text().replace("evals: [{kind: fake}]", evals))
    runs = [Project(fake_spec, ["gates=[]"], host).run(tmp_path / name).summary["run_dir"] for name in ("one", "two")]
    monkeypatch.chdir(tmp_path)
    found = compare(*runs, host=host).against[0]
    assert (list(found.scores), dict(found.refused)) == (["desk.score", "desk.route"], {})
    assert blame(*runs, host).flips["desk"].metric == "score"

    (fake_spec.parent / "own").rename(fake_spec.parent / "elsewhere")
    found = compare(*runs, host=host).against[0]
    assert not found.scores
    said = "`suite` as it is now makes no `route`, `score`, which the run has"
    assert found.refused == {
        "desk": f"{said}; put {fake_spec.parent / 'own'} (`path`) back as it was when the run was made"
    }
    assert blame(*runs, host).refused == found.refused


def test_a_suite_that_was_edited_between_two_runs_is_named(fake_spec, host, tmp_path):
    """By its own questions alone nobody would see it: prompts and references are the same, what is accepted is not."""
    write_suite(fake_spec.parent / "own")
    head, lines = (fake_spec.parent / "own" / name for name in ("suite.yaml", "suite.jsonl"))
    before, _, _ = head.read_text().partition("form: label")
    head.write_text(before + "form: span, instruction: Where to?}\n")
    evals = "evals: [{kind: suite, path: own}]"
    fake_spec.write_text(fake_spec.read_text().replace("evals: [{kind: fake}]", evals))
    first = Project(fake_spec, ["gates=[]"], host).run(tmp_path / "root").summary["run_dir"]
    edited = [
        json.loads(line) | {"accept": ["delivery", "repair", "refund"]} for line in lines.read_text().splitlines()
    ]
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in edited))
    later = Project(fake_spec, ["gates=[]"], host).run(tmp_path / "root").summary["run_dir"]
    found = compare(first, later, host=host).against[0]
    assert not found.refused
    assert re.fullmatch(r"what grades them is another: suite desk 1 \w{12}… → \w{12}…", found.notes["desk"])
    why = blame(first, later, host)
    assert ([one.what for one in why.differing["evaluations"]], why.unnamed) == (["desk: suite desk 1"], "")


def test_a_benchmark_of_ones_own_is_one_block(fake_spec, host, tmp_path):
    rows = [
        {"question": f"how many {what}?", "answer": f"{n} pieces"} for n, what in enumerate(("parcels", "broken pump"))
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    summary = run(fake_spec, host, tmp_path / "root", f"[{OWN.format(path=path)}]")
    assert set(summary["scores"]) == {"mine.token_f1", "mine.numeric"}
    assert summary["scores"]["mine.numeric"]["n"] == 2


def test_choices_are_scored_of_base_and_tuned(fake_spec, host, tmp_path):
    summary = run(fake_spec, host, tmp_path / "root", "[{kind: choice}]")
    assert set(summary["scores"]) == {f"choice.{metric}" for metric in ("accuracy", "probability", "brier", "ece")}


def test_an_unknown_suite_stands_at_its_line(fake_spec, host):
    for option, says in (("name: suport", "there is no suite `suport`"), ("path: suport", "no file `suite.yaml`")):
        with pytest.raises(SpecError, match=says):
            Project.from_spec(fake_spec, overrides=(f"evals=[{{kind: suite, {option}}}]", "gates=[]"), host=host).plan()
