"""One public set for each domain: read whole, asked whole, and the tables of base against tuned.

The counts are those that the sets were published with. What a training gives is a finding and no property of the code:
the slow tests print it, with the answer that is right most often beside it, and hold only what must be true of any.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from realdata.runs import DATA, HERE, graded, marks, run
from tunewright.parts.data_source import Broken
from tunewright.pipeline.rows import ClaimRows, TrainingRows, example_of, rows_of
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.evaluate import refuse_long_references
from tunewright.pipeline.tasks.fetch import Fetch, base_folder
from tunewright.project import Project
from tunewright.stats.majority import majority
from tunewright.store.publish import Artifact

FOLDER = HERE.parents[1] / "specs" / "real"
ASKED = {
    "support-banking77": {"heldout": 3080},
    "medical-pubmedqa": {"heldout": 500, "choice": 500},
    "legal-legalbench": {
        "other-tasks": 80, "other-families": 160, "choice-other-tasks": 80, "choice-other-families": 160,
    },
    "finance-tatqa": {"spans": 924, "numbers": 739},
}  # fmt: skip
"""By spec, the rows that each evaluation asks."""
pytestmark = marks("", hours=6)


def resolved(name, *overrides):
    return Project.from_spec(FOLDER / f"{name}.yaml", overrides=overrides).resolve()


def learnt(found):
    """What a spec's training is given, by row."""
    (training,) = found.trainings
    return rows_of(TrainingRows(training, found.spec.seed).realise().train), training.format


def claimed(found, evaluation):
    return ClaimRows(found.asked[evaluation], found.spec.seed).examples()


def raw(name, kind, path, **options):
    """Every row of one file, as a source of that kind in the place of the spec's own reads it."""
    source = json.dumps([{"kind": kind, "path": str(DATA / path), "on_error": "set_aside", **options}])
    (found,) = resolved(name, f"data.train={source}").trainings[0].train
    return list(found.rows())


def test_each_domain_has_a_spec():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_a_spec_plans_and_asks_every_row_that_it_says(name):
    project = Project.from_spec(FOLDER / f"{name}.yaml")
    assert project.validate() == []
    assert {"train", "evaluate-base", "evaluate-tuned"} <= set(project.plan().keys)
    found = project.resolve()
    assert {one: len(claimed(found, one)) for one in found.asked} == ASKED[name]


@pytest.mark.parametrize("name", ASKED)
def test_no_row_that_is_asked_was_learnt(name):
    """By question and text together; LegalBench's other tasks must not even share a text."""
    found = resolved(name)
    rows, form = learnt(found)
    known = {str(example_of(form, row).asked) for row in rows}
    asked = [row for evaluation in found.asked for row in claimed(found, evaluation)]
    assert not {str(row.example.asked) for row in asked} & known
    if name == "legal-legalbench":
        assert not {row.fields["text"] for row in asked} & {row.fields["text"] for row in rows}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of the base that all four specs tune."""
    source, out = resolved("finance-tatqa").source, tmp_path_factory.mktemp("fetch")
    Fetch(source, source.pin()).run({}, out, Context(out, lambda event: None))
    return base_folder(Artifact(out, {}))


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_may_be_as_long_as_the_longest_reference(name, base):
    """Found after minutes else, and a run of hours ends."""
    found = resolved(name)
    tokenizer = found.loader.tokenizer(base)
    for evaluator in found.evaluators:
        if evaluator.asks:
            refuse_long_references(evaluator, list(evaluator.items(claimed(found, evaluator.name))), tokenizer)


def test_banking77_has_77_intents_and_the_prompt_names_each():
    found = resolved("support-banking77", "data.train.0.sample=null")
    rows, form = learnt(found)
    intents = Counter(row.fields["category"] for row in claimed(found, "heldout"))
    assert len(rows) == 10_003
    assert set(intents.values()) == {40}
    assert len(intents) == 77
    named = form.options.system.split(": ", 1)[1].removesuffix(".")
    assert sorted(named.replace("\n", " ").split(", ")) == sorted(intents)


def test_pubmedqas_ids_part_it_as_published():
    rows = raw("medical-pubmedqa", "pubmedqa", "medical-pubmedqa/ori_pqal.json")
    assert Counter(row.fields["label"] for row in rows) == {"yes": 552, "no": 338, "maybe": 110}
    found = resolved("medical-pubmedqa")
    train, _ = learnt(found)
    test = claimed(found, "heldout")
    assert Counter(row.fields["label"] for row in test) == {"yes": 276, "no": 169, "maybe": 55}
    assert {row.fields["pubid"] for row in train} | {row.fields["pubid"] for row in test} == {
        row.fields["pubid"] for row in rows
    }
    assert len(train) == len(test) == 500


def test_legalbenchs_tasks_are_parted_and_balanced():
    rows = raw("legal-legalbench", "legalbench", "legal-legalbench/rows.jsonl")
    assert (len(rows), len({row.group for row in rows})) == (520, 111)
    found = resolved("legal-legalbench")
    train, _ = learnt(found)
    asked = [claimed(found, evaluation) for evaluation in ("other-tasks", "other-families")]
    tasks = [{row.fields["task"] for row in rows} for rows in (train, *asked)]
    assert [len(one) for one in tasks] == [33, 12, 25]
    assert len(set.union(*tasks)) == sum(map(len, tasks))
    assert {row.fields["answer"] for row in train} == {"Yes", "No"}
    halves = [Counter(row.fields["answer"] for row in rows) for rows in asked]
    assert halves == [{"Yes": 40, "No": 40}, {"Yes": 79, "No": 81}]


@pytest.mark.parametrize(
    ("name", "documents", "types", "unanswered"),
    [
        ("dev", 278, {"span": 701, "multi-span": 216, "arithmetic": 718, "count": 32}, 1),
        ("test_gold", 277, {"span": 714, "multi-span": 210, "arithmetic": 699, "count": 40}, 0),
    ],
)
def test_tatqa_is_a_row_a_question(name, documents, types, unanswered):
    found = raw("finance-tatqa", "tatqa", f"finance-tatqa/tatqa_dataset_{name}.json")
    broken = [row for row in found if isinstance(row, Broken)]
    rows = [row for row in found if not isinstance(row, Broken)]
    assert len(broken) == unanswered
    assert Counter(row.fields["answer_type"] for row in rows) == types
    assert len({row.group for row in rows}) == documents
    whole = json.loads((DATA / f"finance-tatqa/tatqa_dataset_{name}.json").read_text("utf-8"))
    cells = [cell for one in whole for row in one["table"]["table"] for cell in row]
    contexts = "\n".join(dict.fromkeys(row.fields["context"] for row in rows))
    assert all(" ".join(cell.split()) in contexts for cell in cells)


@pytest.mark.parametrize(
    ("name", "evaluation", "label", "share"),
    [
        ("support-banking77", "heldout", "Refund_not_showing_up", 1 / 77),
        ("medical-pubmedqa", "heldout", "yes", 276 / 500),
        ("legal-legalbench", "other-tasks", "No", 1 / 2),
        ("legal-legalbench", "other-families", "No", 81 / 160),
    ],
)
def test_the_majority_of_a_set_is_known(name, evaluation, label, share):
    answers = Counter(row.example.answer for row in claimed(resolved(name), evaluation))
    (commonest, count) = min(answers.items(), key=lambda one: (-one[1], one[0]))
    assert (commonest, count / answers.total()) == (label, pytest.approx(share))


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_base_against_tuned_and_the_majority_beside_them(name, tmp_path):
    """`make realdata-tables`. A set on which the majority is not beaten is said to be uninformative: no failure."""
    summary = run(FOLDER / f"{name}.yaml", tmp_path)
    found = resolved(name)
    rows, form = learnt(found)
    answers = [example_of(form, row).answer for row in rows]
    for evaluation, count in ASKED[name].items():
        metric = "accuracy" if evaluation.startswith("choice") else "exact_match"
        one = majority(answers, graded(summary, evaluation), metric, seed=0)
        print(f"{name} {evaluation}: {one}")
        assert one.score.n == count
