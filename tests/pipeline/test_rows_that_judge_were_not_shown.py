"""What a model is judged on was not shown to it: by a split never, and of files it is said which rows they share."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from tunewright.errors import TunewrightWarning
from tunewright.host import Host
from tunewright.parts.data_source import Row
from tunewright.pipeline.rows import AllRows, ClaimRows, TrainingRows, rows_of
from tunewright.project import Project
from tunewright.resolve.resolved import Claims, Training
from tunewright.spec.problems import SpecError

BOTH = "data.test={kind: split, fraction: 0.3%s}", "data.validation={kind: split, fraction: 0.3%s}"


@pytest.fixture(autouse=True)
def here(fake_spec, monkeypatch):
    """An override's paths are those of the working folder."""
    monkeypatch.chdir(fake_spec.parent)


@pytest.fixture
def spec(fake_spec):
    """The last six messages are the first six again, under other ids, customers and days."""
    made = [(n, f"c{n % 7}", f"2026-01-{n + 1:02}", f"message {n % 24}", f"q{n % 24 % 5}") for n in range(30)]
    lines = [",".join(map(str, row)) + "\n" for row in made]
    (fake_spec.parent / "train.csv").write_text("id,customer,day,text,queue\n" + "".join(lines))
    return fake_spec


def project(spec, host, *overrides):
    return Project.from_spec(spec, host=host, overrides=overrides)


def planned(spec, host, *overrides):
    """The plan, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TunewrightWarning)
        plan = project(spec, host, *overrides).plan()
    return plan, [str(one.message) for one in caught if issubclass(one.category, TunewrightWarning)]


def said(rows):
    return {(row.fields["text"], row.fields["queue"]) for row in rows_of(rows)}


@pytest.mark.parametrize("way", ["", ", group: customer", ", time: day"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_split_parts_equal_messages_that_have_different_ids(spec, fake_host, way, seed):
    resolved = project(spec, fake_host, *(one % way for one in BOTH), f"seed={seed}").resolve()
    (training,) = resolved.trainings
    learnt = TrainingRows(training, seed).realise()
    asked = ClaimRows(resolved.test, seed).realise()
    assert rows_of(asked) and rows_of(learnt.validation)
    assert not said(learnt.train) & said(learnt.validation)
    assert not said(learnt.train) & said(asked)
    assert not said(learnt.validation) & said(asked)
    dropped = sum(one.dropped for one in [*learnt.validation, *asked])
    assert len(rows_of([*learnt.train, *learnt.validation, *asked])) + dropped == 30


READS_ID = "evals=[{kind: fake, format: {kind: fake, answer: id}}]"


def test_a_column_that_an_evaluation_alone_reads_parts_no_rows_and_trains_nothing_anew(spec, fake_host):
    (spec.parent / "test.csv").write_text("id,text,queue\n90,never seen,q1\n")
    for way in BOTH:
        one, other = (project(spec, fake_host, way % "", *more).plan() for more in ((), (READS_ID, "gates=[]")))
        assert one.keys["prepare"] == other.keys["prepare"]
    resolved = project(spec, fake_host, BOTH[0] % "", READS_ID).resolve()
    learnt = TrainingRows(resolved.trainings[0], 7).realise().train
    asked = ClaimRows(resolved.asked["fake"], 7).realise()
    assert len(rows_of(learnt)) + len(rows_of(asked)) == 30  # both see one split
    assert asked and not said(learnt) & said(asked)


TWO = (
    "trainer=null",
    "stages=[{name: task, trainer: {kind: fake}},"
    " {name: more, trainer: {kind: fake}, data: {format: {kind: fake, answer: id}}}]",
)


@pytest.mark.parametrize("way", ["", ", group: customer", ", time: day"])
def test_messages_that_one_stage_learns_alike_are_on_one_side_for_every_stage(spec, fake_host, way):
    """The second stage reads the ids as well, which all differ."""
    resolved = project(spec, fake_host, *(one % way for one in BOTH), *TWO).resolve()
    first, second = (TrainingRows(training, 7).realise() for training in resolved.trainings)
    assert first == second
    asked = ClaimRows(resolved.test, 7).realise()
    for judging in (first.validation, asked):
        assert rows_of(judging) and not said(first.train) & said(judging)
    assert planned(spec, fake_host, *(one % way for one in BOTH), *TWO)[1] == []


def test_what_another_stage_reads_decides_over_a_split_and_stands_in_the_key(spec, fake_host):
    for test, alike in ((BOTH[0] % "", False), ("data.test=[{kind: fake, path: test.csv}]", True)):
        one, other = (
            project(spec, fake_host, test, TWO[0], TWO[1].replace("answer: id", f"answer: {column}")).plan()
            for column in ("id", "customer")
        )
        assert (one.keys["prepare-task"] == other.keys["prepare-task"]) == alike


def test_test_rows_of_a_file_that_are_learnt_are_told_and_run_all_the_same(fake_spec, fake_host):
    train = "data.train=[{kind: fake, path: train.csv}, {kind: fake, path: test.csv, limit: 2}]"
    plan, told = planned(fake_spec, fake_host, train)
    assert len(told) == 1
    assert told[0].startswith("2 of 3 test rows, the first test.csv:2, equal rows of `test.csv` in all that is read")
    assert "these are learnt" in told[0] and "leave them out" in told[0]
    (kept,) = plan.repeats
    assert (kept.count, kept.rows, kept.first, kept.refused) == (2, 3, "test.csv:2", False)
    with pytest.warns(TunewrightWarning, match="2 of 3 test rows"):
        summary = project(fake_spec, fake_host, train).run(fake_spec.parent / "root").summary
    assert summary["status"] == "passed", summary["why"]
    recorded = json.loads((Path(summary["run_dir"]) / "plan.json").read_text())["repeats"]
    assert [(one["judging"], one["count"], one["rows"]) for one in recorded] == [("test rows", 2, 3)]
    assert planned(fake_spec, fake_host)[1] == []


@pytest.mark.parametrize("read", ["", ", format: {kind: fake, answer: id}"])
def test_a_test_row_under_another_id_is_still_a_learnt_one(fake_spec, fake_host, read):
    (fake_spec.parent / "seen.csv").write_text("id,text,queue\n9,where is my parcel,delivery\n")
    evals = f"evals=[{{kind: fake, test: [{{kind: fake, path: seen.csv}}]{read}}}]"
    _, told = planned(fake_spec, fake_host, evals, "gates=[]")
    assert [text.partition(",")[0] for text in told] == ["1 of 1 test rows of fake"]


def test_validation_rows_that_are_learnt_or_that_claims_are_made_on_are_told(fake_spec, fake_host):
    _, told = planned(fake_spec, fake_host, "data.validation=[{kind: fake, path: train.csv, limit: 4}]")
    assert [text.partition(" equal")[0] for text in told] == ["4 of 4 validation rows, the first train.csv:2,"]
    _, told = planned(fake_spec, fake_host, "data.validation=[{kind: fake, path: test.csv}]")
    assert len(told) == 1
    assert told[0].startswith("3 of 3 test rows") and "these choose among checkpoints" in told[0]


STAGE = "{name: %s, trainer: {kind: fake}, data: {train: [{kind: fake, path: train.csv}]}}"
PLAIN = "{name: task, trainer: {kind: fake}}"


def test_a_stage_that_learns_what_a_later_one_is_chosen_by_is_told(fake_spec, fake_host):
    held = ("data.validation={kind: split, fraction: 0.5}", "trainer=null")
    _, told = planned(fake_spec, fake_host, *held, f"stages=[{STAGE % 'domain'}, {PLAIN}]")
    assert [text.partition(",")[0] for text in told] == ["3 of 3 validation rows of stage `task`"]
    assert "stage `domain` learns these" in told[0]
    assert planned(fake_spec, fake_host, *held, f"stages=[{PLAIN}, {STAGE % 'domain'}]")[1] == []  # chosen by then
    assert planned(fake_spec, fake_host, *held, f"stages=[{PLAIN}, {PLAIN.replace('task', 'more')}]")[1] == []


def test_a_stage_may_not_learn_under_another_id_what_a_split_took_out(spec, fake_host):
    rows = [line.split(",") for line in (spec.parent / "train.csv").read_text().splitlines()[1:]]
    (spec.parent / "again.csv").write_text("id,text,queue\n" + "".join(f"x{r[0]},{r[3]},{r[4]}\n" for r in rows))
    stages = f"stages=[{PLAIN}, {STAGE.replace('train.csv', 'again.csv') % 'again'}]"
    with pytest.raises(SpecError) as caught:
        planned(spec, fake_host, "data.test={kind: split, fraction: 0.3}", "trainer=null", stages)
    (problem,) = caught.value.problems
    assert problem.code == "test-rows-learnt"
    assert problem.message.startswith("9 of 9 test rows, the first train.csv:")
    assert "equal rows of `again.csv`" in problem.message and problem.suggestion


def test_a_stage_may_not_learn_what_a_split_took_out_beside_something_else(spec, fake_host):
    """Its own format reads the id too, by which the rows differ."""
    resolved = project(spec, fake_host, BOTH[0] % "").resolve()
    taken = rows_of(ClaimRows(resolved.test, 7).realise())[0].fields
    (spec.parent / "more.csv").write_text(f"id,text,queue\nnew,{taken['text']},{taken['queue']}\n")
    more = "{name: more, trainer: {kind: fake}, data: {format: {kind: fake, answer: id},"
    stages = f"stages=[{PLAIN}, {more} train: [{{kind: fake, path: more.csv}}]}}}}]"
    with pytest.raises(SpecError, match="test-rows-learnt"):
        planned(spec, fake_host, BOTH[0] % "", "trainer=null", stages)


def test_a_text_that_is_learnt_without_its_answer_teaches_no_answer():
    text, chat = (
        Host().make("prompt_format", options)
        for options in ({"kind": "text"}, {"kind": "chat", "prompt": "{text}", "completion": "{queue}"})
    )
    read, asked = (Row(of, of, {"text": "hi", "queue": of}) for of in ("corpus", "delivery"))
    for form, alike in ((chat, False), (text, True)):
        judged = Claims(form, (), None, (form,))
        same = AllRows([], [], {}).same(judged, Training("", None, text, (), (), None, "continue", (text,)))
        assert same.equals(asked, same.known([read])) == alike


def test_a_group_split_refuses_a_stage_that_learns_a_taken_text_of_another_group(spec, fake_host):
    """The group is no part of what makes two rows one, also where a format reads it."""
    way = "data.test={kind: split, fraction: 0.3, group: customer}"
    resolved = project(spec, fake_host, way, "data.format={kind: fake, answer: customer}").resolve()
    taken = rows_of(ClaimRows(resolved.test, 7).realise())
    (spec.parent / "other.csv").write_text(f"text,customer\n{taken[0].fields['text']},somebody\n")
    stages = f"stages=[{PLAIN}, {STAGE.replace('train.csv', 'other.csv') % 'other'}]"
    with pytest.raises(SpecError, match="test-rows-learnt"):
        planned(spec, fake_host, way, "data.format={kind: fake, answer: customer}", "trainer=null", stages)


def test_the_report_says_which_test_rows_were_learnt(fake_spec, fake_host):
    train = "data.train=[{kind: fake, path: train.csv}, {kind: fake, path: test.csv, limit: 2}]"
    with pytest.warns(TunewrightWarning):
        summary = project(fake_spec, fake_host, train).run(fake_spec.parent / "root").summary
    assert "2 of 3 test rows, the first test.csv:2, equal rows" in Path(summary["artifacts"]["report"]).read_text()
    summary = project(fake_spec, fake_host).run(fake_spec.parent / "root").summary
    assert "test rows, the first" not in Path(summary["artifacts"]["report"]).read_text()
