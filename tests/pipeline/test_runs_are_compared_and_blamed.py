"""Two runs side by side, paired by item; and what differs between them beside the rows that flipped."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright import blame, compare
from tunewright.errors import BadInput, TunewrightWarning
from tunewright.host import Host
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.pipeline.blame import RowsDiffering, flipped
from tunewright.pipeline.run import find_run
from tunewright.project import Project


@pytest.fixture
def host(fakes):
    return Host(blocked=FIRST_PARTY)


@pytest.fixture
def ran(fake_spec, host, tmp_path):
    """Runs the spec with overrides under a root of its own, and gives the run's folder."""

    def run(root, *overrides):
        return Path(Project(fake_spec, overrides, host).run(tmp_path / root).summary["run_dir"])

    return run


def rows(spec, name, *found):
    (spec.parent / name).write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in found))


def named(found):
    return {(where, one.what): (one.first, one.later) for where, some in found.differing.items() for one in some}


def test_the_same_run_twice_has_no_difference(ran, host):
    run = ran("one")
    found = compare(run, run, host=host)
    score = found.against[0].scores["fake.right"]
    assert (score.delta, score.p_value, score.p_adjusted, score.n) == (0, 1, 1, 3)
    why = blame(run, run, host=host)
    assert not why.differing
    assert not why.other_steps
    assert (why.unreproducible, why.unnamed) == ("", "")


def test_answers_are_paired_by_item_and_those_that_flipped_are_shown(fake_spec, ran, host):
    first = ran("one")
    rows(fake_spec, "train.csv", ("where is my parcel", "refund"), ("repair the pump", "repair"), ("money", "refund"))
    later = ran("two")
    found = compare(first, later, host=host)
    assert found.scores["fake.right"] == [1, pytest.approx(2 / 3)]
    assert found.against[0].scores["fake.right"].delta == pytest.approx(-1 / 3)
    why = blame(first, later, host=host)
    flips = why.flips["fake"]
    assert (flips.metric, flips.items, flips.otherwise, len(flips.won)) == ("right", 3, 1, 0)
    lost = flips.lost[0]
    assert (lost.origin, lost.reference, lost.first, lost.later) == ("test.csv:2", "delivery", "delivery", "refund")
    assert (lost.token, lost.retokenized, lost.grades) == (0, False, (1.0, 0.0))
    assert why.unreproducible == ""  # other rows may well answer otherwise


def test_rows_that_are_in_one_run_alone_are_counted_with_their_source(fake_spec, ran, host):
    first = ran("one")
    train = fake_spec.parent / "train.csv"
    train.write_text(train.read_text().replace("refund my order", "refund all orders") + "a bill,refund\n")
    why = blame(first, ran("two"), host=host)
    assert [what for _, what in named(why)] == ["data.train.0"]
    assert why.rows == [RowsDiffering("prepare", both=5, only_first=1, only_later=2, reordered=False)]
    assert why.same_steps == ["fetch", "evaluate-base"]


def test_rows_in_another_order_are_told(fake_spec, ran, host):
    first = ran("one")
    lines = (fake_spec.parent / "train.csv").read_text().splitlines()
    (fake_spec.parent / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:]), ""]))
    found = blame(first, ran("two"), host=host).rows
    assert found == [RowsDiffering("prepare", both=6, only_first=0, only_later=0, reordered=True)]


def test_a_field_that_differs_is_named_with_who_set_it(fake_spec, ran, host):
    fake_spec.write_text(fake_spec.read_text().replace("{kind: fake, learning_rate: 0.5}", "{kind: fake}"))
    why = blame(ran("one"), ran("two", "trainer.learning_rate=4"), host=host)
    assert named(why) == {("spec", "trainer.learning_rate"): (1.0, 4.0)}
    assert why.differing["spec"][0].set_by == ("tunewright", "spec")
    assert "train" in why.other_steps
    assert "prepare" in why.same_steps


def test_what_lies_outside_the_spec_is_named(ran, host):
    first, later = ran("one"), ran("two")
    plan = json.loads((later / "plan.json").read_text())
    plan["libraries"]["tunewright"] = "0.0.1"
    plan["lock"]["locked"]["plugins"]["tunewright-fakes"] = "9"
    plan["lock"]["locked"]["model"]["sha256"] = "1" * 64
    plan["device"] = "cuda"
    plan["arguments"]["trainer/fake"]["rate"]["value"] = 3
    plan["arguments"]["trainer/fake"]["rate"]["set_by"] = "library"
    (later / "plan.json").write_text(json.dumps(plan))
    why = blame(first, later, host=host)
    assert {key: found[1] for key, found in named(why).items()} == {
        ("libraries", "tunewright"): "0.0.1", ("plugins", "tunewright-fakes"): "9", ("model", "sha256"): "1" * 64,
        ("arguments", "trainer/fake: rate"): 3, ("machine", "device"): "cuda",
    }  # fmt: skip


def forget(run):
    """Make the answers of a run others, as a training that is not the same twice would; keys stay what they are."""
    path = (run / "steps" / "evaluate-tuned").resolve() / "fake.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    said = "repair" if lines[0]["answer"]["text"] == "refund" else "refund"
    lines[0]["answer"] |= {"text": said, "ids": [*map(ord, said), 3]}
    lines[0]["grades"]["right"] = 1 - lines[0]["grades"]["right"]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"]["fake.jsonl"]["size"] = path.stat().st_size
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def test_runs_that_differ_in_nothing_and_answer_otherwise_are_not_reproducible(ran, host):
    first, later = ran("one"), ran("two")
    assert blame(first, later, host=host).unreproducible == ""
    forget(later)
    why = blame(first, later, host=host)
    assert not why.differing
    assert "not reproducible: 1 of 3 answers differ" in why.unreproducible


def test_code_that_changed_without_a_version_is_suspected(ran, host):
    first, later = ran("one"), ran("two")
    plan = json.loads((later / "plan.json").read_text())
    next(step for step in plan["steps"] if step["name"] == "train")["key"] = "0" * 64
    (later / "plan.json").write_text(json.dumps(plan))
    assert "`train` is another step" in blame(first, later, host=host).unnamed


def test_evaluations_that_asked_other_things_are_not_compared(fake_spec, ran, host):
    first = ran("one")
    rows(fake_spec, "test.csv", ("the parcel is lost", "delivery"), ("the pump is broken", "refund"))
    later = ran("two")
    found = compare(first, later, host=host).against[0]
    assert not found.scores
    said = "its items differ: 1 only the first run asked, 1 have another prompt, 1 have another reference"
    assert found.refused == {"fake": said}
    assert blame(first, later, host=host).refused == found.refused


def asked_with(monkeypatch, **fields):
    """The fake evaluation's items have these from now on."""
    import tunewright_fakes

    def items(self, data):
        return [Item(row.id, row.origin, row.example.prompt, row.example.answer, **fields) for row in data]

    monkeypatch.setattr(tunewright_fakes.FakeEvaluator, "items", items)


@pytest.mark.parametrize(
    ("field", "first", "later", "said"),
    [
        ("choices", ("delivery", "repair", "refund"), ("delivery", "repair"), "3 have other choices"),
        ("task", "route", "triage", "3 belong to another task"),
    ],
)
def test_other_choices_and_other_tasks_are_other_questions(ran, host, monkeypatch, field, first, later, said):
    asked_with(monkeypatch, **{field: first})
    one = ran("one")
    asked_with(monkeypatch, **{field: later})
    found = compare(one, ran("two"), host=host).against[0]
    assert (dict(found.scores), found.refused) == ({}, {"fake": f"its items differ: {said}"})


def test_items_in_other_groups_are_compared_by_the_first_runs(ran, host, monkeypatch):
    asked_with(monkeypatch, group="one document")
    one = ran("one")
    asked_with(monkeypatch, group=None)
    found = compare(one, ran("two"), host=host).against[0]
    assert found.scores["fake.right"].clusters == 1
    assert found.notes == {"fake": "3 items stand in another group: those of the first run count"}


def changed(run, **values):
    """The plan of a run with some of its values replaced; None takes one out."""
    plan = json.loads((run / "plan.json").read_text())
    for name, value in values.items():
        plan.pop(name) if value is None else plan.__setitem__(name, value)
    (run / "plan.json").write_text(json.dumps(plan))


def test_what_grades_and_who_asks_are_noted_where_they_differ(ran, host):
    first, later = ran("one"), ran("two")
    changed(first, versions={"fake": {"rules": "1" * 64, "library": "2.0"}})
    changed(later, versions={"fake": {"rules": "2" * 64, "library": "2.0"}})
    assert compare(first, later, host=host).against[0].notes == {
        "fake": "what grades them is another: rules 111111111111… → 222222222222…"
    }
    changed(later, versions=None)  # as an earlier version wrote it: it does not tell
    assert compare(first, later, host=host).against[0].notes == {}
    changed(first, asked_by={"fake": {"kind": "fake", "bits": 2}})
    changed(later, asked_by={"fake": {"kind": "fake", "bits": 4}})
    assert compare(first, later, host=host).against[0].notes == {"fake": "another engine asked: bits 2 → 4"}
    changed(later, asked_by={"fake": {"kind": "far", "bits": 4, "host": "b"}})
    assert compare(first, later, host=host).against[0].notes == {"fake": "another engine asked: kind fake → far"}


def test_files_that_an_evaluation_asks_by_are_suspected_where_a_run_does_not_tell_them(ran, host):
    first, later = ran("one"), ran("two")
    changed(later, steps=[step | {"key": "0" * 64} if step["name"] == "evaluate-tuned" else step
                          for step in json.loads((later / "plan.json").read_text())["steps"]])  # fmt: skip
    assert "its code was changed" in blame(first, later, host=host).unnamed
    assert "such as a suite's" not in blame(first, later, host=host).unnamed
    changed(later, versions=None)
    assert "such as a suite's, were edited" in blame(first, later, host=host).unnamed


def test_an_evaluation_whose_plugin_is_gone_is_said(ran, host):
    run = ran("one")
    plan = json.loads((run / "plan.json").read_text())
    plan["lock"]["evals"][0] |= {"kind": "gone"}
    (run / "plan.json").write_text(json.dumps(plan))
    assert "no installed plugin brings `evaluator/gone`" in compare(run, run, host=host).against[0].refused["fake"]


def test_an_evaluation_whose_name_is_no_option_is_found(ran, host):
    run = ran("one")
    plan = json.loads((run / "plan.json").read_text())
    assert plan["lock"]["evals"][0]["name"] is None
    plan["asked_by"] = {"desk": plan["asked_by"]["fake"]}  # as a suite is called what its own files say
    (run / "plan.json").write_text(json.dumps(plan))
    path = (run / "steps" / "evaluate-tuned").resolve()
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "fake.jsonl").rename(path / "desk.jsonl")
    manifest["files"]["desk.jsonl"] = manifest["files"].pop("fake.jsonl")
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "subject.json").write_text((path / "subject.json").read_text().replace('"fake', '"desk'))
    assert list(compare(run, run, host=host).against[0].scores) == ["desk.right"]


def test_a_score_that_the_evaluation_no_longer_makes_is_said_with_what_to_do(ran, host, monkeypatch):
    import tunewright_fakes

    run = ran("one")
    monkeypatch.setattr(tunewright_fakes.FakeEvaluator, "summaries", lambda self: {})
    found = compare(run, run, host=host).against[0]
    assert not found.scores
    said = "`fake` as it is now makes no `right`, which the run has; "
    assert found.refused == {"fake": f"{said}install the version of its plugin that `spec.lock.yaml` of the run names"}
    assert blame(run, run, host=host).refused == found.refused
    plan = json.loads((run / "plan.json").read_text())
    del plan["paths"]  # as an earlier version wrote it
    (run / "plan.json").write_text(json.dumps(plan))
    refused = compare(run, run, host=host).against[0].refused
    assert refused == {"fake": f"{said}compare in the folder of the run's spec, or run the spec again"}


def test_a_score_that_is_new_to_the_evaluation_is_no_score_of_the_runs(ran, host, monkeypatch):
    import tunewright_fakes

    run, mean = ran("one"), tunewright_fakes.mean_of
    monkeypatch.setattr(
        tunewright_fakes.FakeEvaluator, "summaries", lambda self: {"new": mean("new"), "right": mean("right")}
    )
    assert list(compare(run, run, host=host).against[0].scores) == ["fake.right"]


def test_dots_in_names_part_scores_as_the_longest_name_does(ran, host):
    run = ran("one", "evals=[{kind: fake}, {kind: fake, name: fake.right}]")
    found = compare(run, run, host=host).against[0]
    assert (list(found.scores), dict(found.refused)) == (["fake.right", "fake.right.right"], {})


def test_items_of_scores_that_are_made_of_all_at_once_are_neither_better_nor_worse(fake_spec, ran, host, monkeypatch):
    import tunewright_fakes

    def grade(self, item, answer):  # an alphabet would take `gold`, which is no verdict on an answer
        return {"gold": float(len(answer.text)), "right": float(answer.text == item.reference)}

    monkeypatch.setattr(tunewright_fakes.FakeEvaluator, "grade", grade)
    monkeypatch.setattr(
        tunewright_fakes.FakeEvaluator, "summaries", lambda self: {"all": lambda graded: float(len(graded))}
    )
    first = ran("one", "gates=[]")
    rows(fake_spec, "train.csv", ("where is my parcel", "refund"), ("repair the pump", "repair"), ("money", "refund"))
    flips = blame(first, ran("two", "gates=[]"), host=host).flips["fake"]
    assert (flips.metric, flips.otherwise, list(flips.won), list(flips.lost)) == (None, 1, [], [])


def test_another_way_of_grading_is_noted(ran, host):
    found = compare(ran("one"), ran("two", "evals=[{kind: fake, max_new_tokens: 16}]"), host=host).against[0]
    assert found.notes == {"fake": "answers were graded otherwise: max_new_tokens 32 → 16"}
    assert "fake.right" in found.scores


def test_every_score_counts_in_the_adjusted_p(fake_spec, ran, host):
    twice = "evals=[{kind: fake}, {kind: fake, name: again}]"
    first = ran("one", twice)
    rows(fake_spec, "train.csv", ("where is my parcel", "refund"), ("repair the pump", "refund"), ("cash", "repair"))
    scores = compare(first, ran("two", twice), host=host).against[0].scores
    assert [score.p_adjusted for score in scores.values()] == [min(1, 2 * s.p_value) for s in scores.values()]
    assert scores["fake.right"].p_value < 1


def test_runs_of_other_seeds_alone_are_told_apart_by_seed(fake_spec, ran, host):
    runs = [ran(f"seed{seed}", f"seed={seed}") for seed in (7, 8, 9)]
    found = compare(*runs, host=host)
    assert len(found.against) == 2
    between = found.seeds["fake.right"]
    assert (between.seeds, between.n, between.sd_seeds) == (3, 3, 0)
    assert between.gain == pytest.approx(1)
    other = ran("other", "seed=10", "trainer.learning_rate=2")
    assert compare(*runs, other, host=host).seeds is None
    assert compare(runs[0], runs[0], host=host).seeds is None
    assert named(blame(runs[0], runs[1], host=host)) == {("seed", "seed"): (7, 8)}


def test_a_score_that_is_no_mean_over_items_is_not_parted_by_seed(fake_spec, ran, host, monkeypatch):
    import tunewright_fakes

    best = {"right": lambda graded: max(one.grades["right"] for one in graded)}
    monkeypatch.setattr(tunewright_fakes.FakeEvaluator, "summaries", lambda self: best)
    rows(fake_spec, "train.csv", ("where is my parcel", "delivery"), ("the lamp", "delivery"), ("a pump", "delivery"))
    found = compare(*(ran(f"seed{seed}", f"seed={seed}") for seed in (7, 8)), host=host)
    assert found.seeds == {"fake.right": "it is no mean over items"}


def answered(name, ids, grade, prompt=(1,)):
    return Graded(Item(name, name, "", ""), Completion(list(ids), "", "terminator", list(prompt)), {"loss": grade})


def test_less_is_better_where_the_evaluation_says_so_and_where_answers_part_is_told():
    first = [answered("a", [5, 6, 7], 2), answered("b", [5], 2), answered("c", [5], 1), answered("d", [5], 1)]
    later = [answered("d", [5], 1), answered("c", [5], 1, [9]), answered("b", [5], 3), answered("a", [5, 6, 8], 1)]
    found = flipped(first, later, "loss", less=True)
    assert [(one.id, one.token) for one in found.won] == [("a", 2)]
    assert [(one.id, one.token) for one in found.lost] == [("b", None)]  # the same answer, graded otherwise
    assert (found.items, found.otherwise) == (4, 2)
    assert [one.id for one in flipped(first, later, "loss", less=False).won] == ["b"]
    (other,) = flipped([answered("a", [5], 1)], [answered("a", [5], 2, [9])], "loss", less=False).won
    assert other.retokenized


def test_a_root_and_a_spec_stand_for_their_latest_run(ran, host, fake_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ran("runs/acme")
    found = compare(tmp_path / "runs" / "acme", fake_spec, host=host)
    assert [one.folder for one in found.runs] == [run.resolve()] * 2


def test_a_spec_that_its_latest_run_was_not_made_of_is_warned_of(ran, host, fake_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ran("runs/acme").resolve()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_run(fake_spec) == run
        fake_spec.write_text(f"# a comment changes nothing\n{fake_spec.read_text()}")
        assert find_run(fake_spec) == run
    fake_spec.write_text(fake_spec.read_text().replace("learning_rate: 0.5", "learning_rate: 0.9"))
    said = f"{fake_spec} is not what the run in {run} was made of, by a change since or by `--set`: "
    with pytest.warns(TunewrightWarning, match=re.escape(f"{said}`trainer.learning_rate` differs")):
        compare(fake_spec, run, host=host)
    fake_spec.write_text(fake_spec.read_text().replace("seed: 7", "").replace("evals: [{kind: fake}]", ""))
    with pytest.warns(TunewrightWarning, match=r"`trainer.learning_rate`, `evals.0.kind`, `seed` differ"):
        find_run(fake_spec)
    fake_spec.write_text(f"{fake_spec.read_text()}license: null\n")
    with pytest.warns(TunewrightWarning, match="`seed` and 1 more differ"):
        find_run(fake_spec)


def test_a_value_that_was_set_for_one_run_is_told_where_the_spec_stands_for_it(ran, fake_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran("runs/acme", "trainer.learning_rate=2")
    with pytest.warns(TunewrightWarning, match="or by `--set`: `trainer.learning_rate` differs"):
        find_run(fake_spec)


def test_a_run_that_does_not_tell_its_spec_is_named(ran, fake_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (ran("runs/acme") / "plan.json").write_text("{}")
    with pytest.warns(TunewrightWarning, match="does not tell what spec it was made of: .* may have changed since"):
        find_run(fake_spec)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "has no `name`"),
        ("name: [a]", r"is called \['a'\]"),
        ("name: ../../etc", "is called '../../etc', which"),
    ],
)
def test_a_spec_that_does_not_say_where_its_runs_are_stands_for_none(fake_spec, name, why):
    fake_spec.write_text(fake_spec.read_text().replace("name: acme", name))
    with pytest.raises(BadInput, match=f"{why}.*: where its runs are is not known") as refused:
        find_run(fake_spec)
    assert "give it the `name`" in refused.value.fix


def test_what_cannot_be_compared_is_bad_input(ran, host, tmp_path):
    run = ran("one")
    with pytest.raises(BadInput, match="nothing to compare"):
        compare(run, host=host)
    with pytest.raises(BadInput, match="is not a run"):
        compare(run, tmp_path, host=host)
    shutil.rmtree((run / "steps" / "evaluate-tuned").resolve())
    with pytest.raises(BadInput, match="no finished step `evaluate-tuned`"):
        compare(run, run, host=host)
