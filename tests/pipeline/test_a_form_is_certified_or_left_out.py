"""A form that is served is measured against what was trained: what is worse is said, and not handed over."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from fake_project import FIRST_PARTY
from tunewright import Host, hookimpl
from tunewright.cli.tables import print_result
from tunewright.errors import BadInput, EnvironmentFault, WorkFailed
from tunewright.parts import Cap, Exporter
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item, mean_of
from tunewright.parts.exporter import ExporterOptions, Form
from tunewright.pipeline import certify
from tunewright.pipeline.apart import Apart, apart
from tunewright.pipeline.certificate import Answers, certificate, compared, kl
from tunewright.project import Project
from tunewright.spec.problems import SpecError

QUEUES = ("delivery", "repair", "refund")


class WholeOptions(ExporterOptions):
    kind: str = "whole"
    spoil: Annotated[Literal["nothing", "weights", "base", "template", "torn"], Field(description="What it loses.")] = (
        "nothing"
    )


class Whole(Exporter):
    """Base and adapter as one model, with something lost on the way."""

    kind, Options = "whole", WholeOptions
    reads = frozenset({"spoil"})

    def export(self, trained, out):
        from tunewright_fakes import write_safetensors

        trained.merge(out, "fp32", "original")
        spoil = self.options.spoil
        if spoil == "weights":  # every queue but one is forgotten
            said = {word: {"repair": 1.0} for word in ("parcel", "repair", "money")}
            write_safetensors(out / "model.safetensors", "base", json.dumps(said).encode())
        if spoil == "base":
            write_safetensors(out / "model.safetensors", "base", b"the base's weights")
        if spoil == "template":
            (out / "chat_template.jinja").unlink()
        if spoil == "torn":
            (out / "tokenizer.json").unlink()
        return Form(trained.engine, attach=False, dtype="fp32", speaks=True)


@pytest.fixture
def host(fakes):
    import tunewright_fakes

    class SlowOptions(tunewright_fakes.KindOnly):
        kind: str = "slow"
        words: int = 0

    class Slow(tunewright_fakes.FakeEngine):
        kind, Options, reads = "slow", SlowOptions, frozenset({"words"})

    sys.modules[__name__].Slow = Slow
    table = {"exporter/whole": f"{__name__}:Whole", "engine/slow": f"{__name__}:Slow"}
    return Host(blocked=FIRST_PARTY, extra={"whole": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


@pytest.fixture
def spec(fake_spec):
    """Enough test rows for a loss that is no chance."""
    asked = {"delivery": "the parcel never came", "repair": "please repair it", "refund": "give me my money"}
    rows = [f"{asked[queue]} {number},{queue}" for number in range(6) for queue in QUEUES]
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + "\n".join(rows) + "\n")
    return fake_spec


def run(spec, host, root, spoil="nothing", *overrides):
    exports = f"exports=[{{kind: whole, spoil: {spoil}}}]"
    return Project.from_spec(spec, overrides=[exports, *overrides], host=host).run(root).summary


def test_a_form_that_is_as_good_is_handed_over_with_its_certificate(spec, host, tmp_path):
    summary = run(spec, host, tmp_path)
    whole = summary["parity"]["whole"]
    assert (whole["agreement"], whole["diverged"], whole["refused"]) == (1.0, 0, [])
    assert whole["prompts"] == 8 + 18  # golden prompts and test rows
    score = whole["scores"]["fake.right"]
    assert (score["n"], score["base"], score["tuned"], whole["delta"]) == (18, 1.0, 1.0, 0.0)
    package = Path(summary["artifacts"]["package"])
    exported = Path(summary["artifacts"]["whole"])
    for file in exported.iterdir():
        assert (package / "forms/whole" / file.name).read_bytes() == file.read_bytes()
    manifest = json.loads((package / "manifest.json").read_text())
    assert manifest["forms"]["whole"]["folder"] == "forms/whole"
    assert manifest["forms"]["adapter"]["folder"] == ""
    certified = json.loads((package / "certificate.json").read_text())
    # every figure that `run --json` tells, speed and memory among them
    assert certified == json.loads(json.dumps(summary["parity"]))
    assert certified["whole"]["tokens_per_second"] > 0 and certified["whole"]["peak_rss_bytes"] > 1e6
    assert "| whole | fake | 100.0% |" in (package / "MODEL_CARD.md").read_text()
    with zipfile.ZipFile(package.with_name(f"{package.name}.zip")) as archive:
        assert f"{package.name}/forms/whole/model.safetensors" in archive.namelist()
    subprocess.run([sys.executable, "-I", str(package / "verify.py")], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("weights", "fake.right falls behind: 0.333 where the trained form has 1.000 on 18 rows"),
        ("base", "it answers every test row as the base does: what was trained is not in it"),
        ("template", "26 of 26 prompts become other tokens: its template or its tokenizer is not the one"),
    ],
)
def test_a_spoiled_form_stays_out_of_the_package_and_the_run_says_why(spec, host, tmp_path, spoil, why):
    summary = run(spec, host, tmp_path, spoil)
    assert summary["status"] == "passed"  # what was trained is as good as ever
    assert any(reason.startswith(why) for reason in summary["parity"]["whole"]["refused"])
    assert Path(summary["artifacts"]["whole"]).is_dir()
    package = Path(summary["artifacts"]["package"])
    assert not (package / "forms").exists()
    manifest = json.loads((package / "manifest.json").read_text())
    assert manifest["forms"]["whole"]["folder"] == ""
    assert "whole is not handed over: " in (package / "MODEL_CARD.md").read_text()
    page = Path(summary["artifacts"]["report"]).read_text()
    assert why.replace("'", "&#39;") in page
    assert f"{26 if spoil == 'template' else 0} other ids</span>" in page


def test_it_is_compared_by_the_loaders_engine_whoever_asks_for_the_evaluation(spec, host, tmp_path):
    """An evaluation with an engine of its own must not switch the comparison off."""
    other = "evals=[{kind: fake, engine: {kind: slow, words: 3}}]"
    summary = run(spec, host, tmp_path, "weights", other, "gates=[]")
    whole = summary["parity"]["whole"]
    assert whole["scores"]["fake.right"]["tuned"] == pytest.approx(1 / 3)
    assert any("fake.right falls behind" in why for why in whole["refused"])


def test_the_base_is_found_by_golden_prompts_where_every_evaluation_has_its_own_engine(spec, host, tmp_path):
    other = "evals=[{kind: fake, engine: {kind: slow, words: 3}}]"
    says = "it answers every golden prompt as the base does: what was trained is not in it"
    assert says in run(spec, host, tmp_path, "base", other, "gates=[]")["parity"]["whole"]["refused"]
    assert says in run(spec, host, tmp_path, "base", "evals=[]", "gates=[]")["parity"]["whole"]["refused"]
    assert run(spec, host, tmp_path, "nothing", other, "gates=[]")["parity"]["whole"]["refused"] == []


def test_a_form_of_which_no_evaluation_speaks_is_judged_by_its_golden_answers(spec, host, tmp_path):
    summary = run(spec, host, tmp_path, "weights", "evals=[]", "gates=[]")
    (why,) = summary["parity"]["whole"]["refused"]
    assert why.startswith("no evaluation speaks for it, and ")
    assert not (Path(summary["artifacts"]["package"]) / "forms").exists()
    assert summary["parity"]["adapter"]["refused"] == []
    assert run(spec, host, tmp_path, "nothing", "evals=[]", "gates=[]")["parity"]["whole"]["refused"] == []


def test_an_export_is_opened_by_the_engine_that_the_spec_gives_it(spec, host, tmp_path, monkeypatch, capsys):
    asked, opened = {}, certify.apart

    def seen(form, *rest):
        asked[form["base"]] = form["parts"]["engine"]
        return opened({**form, "parts": {**form["parts"], "engine": {"kind": "fake"}}}, *rest)  # it knows no `slow`

    monkeypatch.setattr(certify, "apart", seen)
    given = "exports=[{kind: whole}, {kind: whole, name: served, engine: {kind: slow, words: 3}}]"
    summary = Project.from_spec(spec, overrides=[given], host=host).run(tmp_path).summary
    assert {"kind": "slow", "words": 3} in asked.values()
    assert list(asked.values()).count({"kind": "fake"}) == 2
    package = Path(summary["artifacts"]["package"])
    forms = json.loads((package / "manifest.json").read_text())["forms"]
    assert {name: form["engine"] for name, form in forms.items()} == {
        "adapter": "fake",
        "whole": "fake",
        "served": "slow",
    }
    lock = (package / "spec.lock.yaml").read_text()
    assert "words: 3" in lock
    # whose figures they are stands wherever a person reads them
    page = Path(summary["artifacts"]["report"]).read_text()
    assert page.count("asked with fake</span></th>") == 2
    assert page.count("asked with slow</span></th>") == 1
    assert "| served | slow | 100.0% |" in (package / "MODEL_CARD.md").read_text()
    print_result(summary)
    said = capsys.readouterr().out
    assert "asked with fake: adapter, whole\nasked with slow: served\n" in said
    assert max(map(len, said.partition("report  ")[0].splitlines())) <= 80


def test_the_engine_of_an_export_stands_in_the_key_of_what_it_answers(spec, host):
    def key(words):
        given = f"exports=[{{kind: whole, engine: {{kind: slow, words: {words}}}}}]"
        return Project.from_spec(spec, overrides=[given], host=host).plan().keys

    one, other = key(3), key(4)
    assert one["export-whole"] == other["export-whole"]
    assert one["parity"] != other["parity"]


def test_which_form_an_engine_opens_stands_in_the_key(spec, host):
    def key(*forms):
        given = f"exports=[{', '.join(forms)}]"
        return Project.from_spec(spec, overrides=[given], host=host).plan().keys["parity"]

    one, other = "{{kind: whole, name: {}, engine: {{kind: slow, words: 3}}}}", "{{kind: whole, name: {}}}"
    assert key(one.format("a"), other.format("b")) != key(other.format("a"), one.format("b"))


def test_a_form_that_cannot_be_asked_a_row_is_left_out_and_the_run_passes(spec, host, tmp_path, monkeypatch):
    complete = Apart.complete

    def narrow(self, *asked, **options):
        if self.identity == "base":  # the whole model: no adapter is put on it
            raise BadInput("prompt 3 does not fit into its context")
        return complete(self, *asked, **options)

    monkeypatch.setattr(Apart, "complete", narrow)
    summary = run(spec, host, tmp_path)
    assert summary["status"] == "passed"
    (why,) = summary["parity"]["whole"]["refused"]
    assert why == "it cannot be asked what the trained form was asked: prompt 3 does not fit into its context"
    assert not (Path(summary["artifacts"]["package"]) / "forms").exists()
    assert summary["parity"]["adapter"]["refused"] == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("torn", "it cannot be opened: files holds no tokenizer"),
        ("died", "it cannot be opened: the exported form could not be asked in a fresh process: no room"),
    ],
)
def test_a_form_that_cannot_be_opened_is_left_out_and_the_run_passes(spec, host, tmp_path, monkeypatch, spoil, says):
    died = WorkFailed("the exported form could not be asked in a fresh process:\nno room")
    opening(monkeypatch, died if spoil == "died" else None)
    summary = run(spec, host, tmp_path, "torn")
    assert summary["status"] == "passed"
    (why,) = summary["parity"]["whole"]["refused"]
    assert why.startswith(says)
    assert summary["parity"]["whole"]["tokens_per_second"] is None
    assert summary["parity"]["adapter"]["refused"] == []
    package = Path(summary["artifacts"]["package"])
    assert not (package / "forms").exists()
    assert "whole is not handed over: it cannot be opened" in (package / "MODEL_CARD.md").read_text()
    assert "it cannot be opened" in Path(summary["artifacts"]["report"]).read_text()
    gate = run(spec, host, tmp_path, "torn", "gates=[{kind: fake, metric: parity.whole.agreement, at_least: 0.5}]")
    assert gate["status"] == "failed", "what was not measured passes no gate"


def test_what_this_machine_lacks_is_no_forms_fault(spec, host, tmp_path, monkeypatch):
    opening(monkeypatch, EnvironmentFault("the engine is not installed"))
    with pytest.raises(EnvironmentFault, match="is not installed"):
        run(spec, host, tmp_path)


def test_the_trained_form_that_cannot_be_opened_ends_the_run(spec, host, tmp_path, monkeypatch):
    opening(monkeypatch, WorkFailed("no room"), attached=True)
    with pytest.raises(WorkFailed, match="no room"):
        run(spec, host, tmp_path)


def opening(monkeypatch, error, attached=False):
    """Raise an error where a form is opened: a whole model, or one that is put on the base."""
    if error is None:
        return
    opened = certify.apart

    def failing(form, *rest):
        if (form["saved"] is not None) == attached:
            raise error
        return opened(form, *rest)

    monkeypatch.setattr(certify, "apart", failing)


def test_a_process_that_was_killed_is_said_to_be(tokenizer, fresh_process, tmp_path, monkeypatch):
    monkeypatch.setattr("tunewright.pipeline.apart.sys.executable", killed(tmp_path))
    says = "it was killed, as a system does that is out of memory"
    with pytest.raises(EnvironmentFault, match=says), apart(form_of_nothing(), tokenizer, tmp_path):
        pytest.fail("it was opened")


def killed(folder):
    """A program that is ended as the system ends one that takes too much memory."""
    program = folder / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    return str(program)


def test_a_gate_may_ask_for_what_the_certificate_measures(spec, host, tmp_path):
    gate = "gates=[{kind: fake, metric: parity.whole.agreement, at_least: 0.98}]"
    assert run(spec, host, tmp_path / "good", "nothing", gate)["status"] == "passed"
    summary = run(spec, host, tmp_path / "bad", "weights", gate)
    assert summary["status"] == "failed"
    assert "package" not in summary["artifacts"]
    score = "gates=[{kind: fake, metric: parity.whole.fake.right, at_least: 0.9}]"
    assert not run(spec, host, tmp_path / "bad", "weights", score)["gates"][0]["passed"]


def test_a_gate_on_a_form_that_is_not_exported_is_found_at_validate(spec, host):
    gate = "gates=[{kind: fake, metric: parity.hole.agreement}]"
    with pytest.raises(SpecError) as caught:
        Project.from_spec(spec, overrides=["exports=[whole]", gate], host=host).plan()
    assert "parity.whole.agreement" in str(caught.value)


def test_a_gate_on_distributions_that_an_engine_never_tells_is_found_at_validate(spec, host, monkeypatch):
    import tunewright_fakes

    gate = "gates=[{kind: fake, metric: parity.whole.kl}]"
    with pytest.raises(SpecError) as caught:
        Project.from_spec(spec, overrides=["exports=[whole]", gate], host=host).plan()
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == ("unknown-metric", "no evaluation makes `parity.whole.kl`")
    monkeypatch.setattr(tunewright_fakes.FakeEngine, "offers", lambda self: frozenset({Cap.SCORES, Cap.LIKELIEST}))
    Project.from_spec(spec, overrides=["exports=[whole]", gate], host=host).plan()


# ---------------------------------------------------------------- the rule, on answers made by hand


class Right:
    """Stands for an evaluator: one grade, whose mean is the score."""

    name, asks = "heldout", True

    def __init__(self, less=False):
        self.less = less

    def summaries(self):
        return {"right": mean_of("right")}

    def lower_is_better(self):
        return frozenset({"right"} if self.less else ())

    def biased(self):
        return {}

    largest = biased


def answers(evaluator, grades, stopped="terminator"):
    rows = [
        Graded(Item(str(place), "", "?", "!"), Completion([place, 7], "", stopped, [1]), {"right": float(grade)})
        for place, grade in enumerate(grades)
    ]
    return Answers([row.answer for row in rows[:2]], None, {evaluator: rows})


def refused(trained, form, less=False, stopped="terminator"):
    evaluator = Right(less)
    return certificate(answers(evaluator, trained), answers(evaluator, form, stopped), None, 0)["refused"]


@pytest.mark.parametrize(
    ("lost", "of", "out"),
    [(0, 400, False), (8, 400, False), (9, 400, True), (4, 40, False), (8, 40, True)],
)
def test_more_than_two_points_are_too_many_unless_it_may_be_chance(lost, of, out):
    assert bool(refused([1] * of, [0] * lost + [1] * (of - lost))) == out


@pytest.mark.parametrize(("times", "out"), [(1.01, False), (1.03, True), (0.5, False), (2.0, True)])
def test_two_percent_of_what_is_better_when_smaller(times, out):
    perplexities = [10 + place / 10 for place in range(30)]
    assert bool(refused(perplexities, [times * one for one in perplexities], less=True)) == out


def test_answers_that_never_end_are_a_lost_stop_token():
    (why,) = refused([1, 1, 1], [1, 1, 1], stopped="limit")
    assert "none of its answers ends" in why


def unended(evaluator, places, of=400):
    """Answers of which those at `places` run on to the limit."""
    rows = answers(evaluator, [1] * of).graded[evaluator]
    cut = [replace(one, answer=replace(one.answer, stopped="limit")) if n in places else one
           for n, one in enumerate(rows)]  # fmt: skip
    return Answers((), None, {evaluator: cut})


@pytest.mark.parametrize(
    ("trained", "form", "out"),
    [
        (range(0), range(399), True),  # one answer of 400 ends
        (range(0), range(6), True),
        (range(0), range(5), False),  # may be chance
        (range(200), range(206), True),  # the same 200 say nothing
        (range(20), range(20, 40), False),  # as many as before
        (range(10), range(0), False),  # fewer than before
    ],
)
def test_more_answers_without_an_end_are_a_stop_token_that_is_not_always_known(trained, form, out):
    evaluator = Right()
    found = certificate(unended(evaluator, trained), unended(evaluator, form), None, 0)
    says = f"{len(form)} of 400 answers to heldout run on to the limit, and {len(trained)} of the trained form's (p "
    assert [why.startswith(says) for why in found["refused"]] == [True] * out


def test_golden_prompts_tell_of_the_stop_token_where_no_row_is_answered():
    ends = [Completion([place, 7], "", "terminator", [1]) for place in range(8)]
    cut = [replace(one, stopped="limit") for one in ends]
    (why,) = certificate(Answers(ends), Answers([*cut[:7], ends[7]]), None, 0)["refused"]
    assert why.startswith("7 of 8 answers to golden prompts run on to the limit, and 0 of the trained form's (p 0.016)")


def golden(*answers, apart=0.5):
    """Golden answers by their token ids, and distributions that lie so many nats away from a sure one."""
    said = [Completion(list(ids), "", "terminator", [1, place]) for place, ids in enumerate(answers)]
    return Answers(said, None if apart is None else [[{1: -apart}] * len(ids) for ids in answers])


LONG = (*range(10, 41), 2)


@pytest.mark.parametrize(
    ("trained", "form", "apart", "out"),
    [
        ([(10, 11, 12, 13, 2)] * 8, [(90, 91, 92, 93, 2)] * 8, 3.0, True),
        ([(10, 11, 12, 13, 2)] * 8, [(90, 91, 92, 93, 2)] * 8, None, True),  # an engine that tells no distributions
        ([(10, 11, 12, 13, 2)] * 8, [(90, 91, 92, 93, 2)] * 8, 0.05, False),  # near-ties, every one
        ([LONG] * 8, [(10, *range(90, 121))] + [LONG] * 7, None, False),  # one near-tie, and all goes another way
        ([LONG] * 8, [(10, 11, 12, 13, 14, 15, 16, 17, 18, 90)] * 8, None, False),  # nine of ten
        ([LONG] * 8, [(10, 11, 12, 13, 14, 15, 16, 17, 90)] * 8, None, True),
        ([(5, 2)] * 8, [(6, 2)] + [(5, 2)] * 7, None, False),  # one label of eight
        ([(5, 2)] * 8, [(6, 2)] * 2 + [(5, 2)] * 6, None, True),
    ],
)
def test_where_no_evaluation_speaks_a_form_gives_nine_of_ten_tokens_after_the_same_words(trained, form, apart, out):
    found = certificate(golden(*trained, apart=apart and 0.0), golden(*form, apart=apart), None, 0)
    assert bool(found["refused"]) == out
    for why in found["refused"]:
        assert (
            "add an evaluation that its engine can serve, as `evals: [{kind: heldout}]`, and the scores decide" in why
        )
        assert ("3 nats away (at most 0.05)" in why) == (apart is not None)


def test_where_an_evaluation_speaks_its_scores_decide_and_no_golden_answer():
    graded = answers(Right(), [1] * 20).graded
    trained, form = (golden(*[ids] * 8, apart=None)._replace(graded=graded) for ids in ((5, 2), (6, 2)))
    assert certificate(trained, form, None, 0)["refused"] == []


class Scores(Right):
    """Stands for an evaluator that lets the model say nothing."""

    asks = False


@pytest.mark.parametrize(
    ("nats", "out"),
    [(-41.0, True), (-41.001, True), (-39.5, False)],  # the base's own, the base's in other batches, near the trained
)
def test_a_form_that_scores_as_the_base_does_has_lost_what_was_trained(nats, out):
    evaluator = Scores()

    def scored(nats):
        rows = [Graded(Item(str(n), "", "?", "!"), Completion([5], "", "given", [1]), {"right": 1.0, "nll": nats - n})
                for n in range(3)]  # fmt: skip
        return Answers((), None, {evaluator: rows})

    found = certificate(scored(-39.0), scored(nats), scored(-41.0), 0)["refused"]
    assert found == ["it answers every test row as the base does: what was trained is not in it"] * out
    assert certificate(scored(-41.0), scored(nats), scored(-41.0), 0)["refused"] == []  # nothing was trained to be lost


def test_a_form_that_ends_other_answers_than_the_trained_one_has_not_lost_the_token():
    evaluator = Right()
    trained, form = answers(evaluator, [1, 1, 1], "limit"), answers(evaluator, [1, 1, 1], "limit")
    rows = {"trained": list(trained.graded[evaluator]), "form": list(form.graded[evaluator])}
    for side, place in (("trained", 0), ("form", 1)):
        rows[side][place] = replace(rows[side][place], answer=replace(rows[side][place].answer, stopped="terminator"))
    trained, form = (Answers((), None, {evaluator: rows[side]}) for side in ("trained", "form"))
    assert certificate(trained, form, None, 0)["refused"] == []


def test_tokens_are_counted_where_they_stand_and_only_after_the_same_prompt():
    def said(*ids, prompt=(1,), stopped="terminator"):
        return Completion(list(ids), "", stopped, list(prompt))

    trained = [said(5, 6, 7, 9), said(5, 9), said(5, 9), said(8, 9)]
    form = [said(5, 6, 8, 9), said(5, 9), said(5, 9, prompt=(2,)), said(8, 8, 8, stopped="limit")]
    assert compared(trained, form) == {
        "agreement": (3 + 2 + 0 + 1) / 10, "prompts": 4, "diverged": 3, "first_divergence": 0, "retokenized": 1,
        "unended": 1,
    }  # fmt: skip
    assert compared(trained, trained)["first_divergence"] is None


def distribution(**chances):
    return {ord(token): math.log(chance) for token, chance in chances.items()}


def test_kl_is_that_of_the_definition_and_a_lower_bound_where_tokens_are_not_named():
    one, other = distribution(a=0.7, b=0.2, c=0.1), distribution(a=0.5, b=0.3, c=0.2)
    whole = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.3) + 0.1 * math.log(0.1 / 0.2)
    assert kl(one, one) == 0.0
    assert kl(one, other) == pytest.approx(whole)
    assert kl(one, distribution(a=0.5, b=0.3)) == pytest.approx(whole)  # what is left can be c alone
    wide = distribution(a=0.6, b=0.2, c=0.1, d=0.1)
    assert 0 < kl(wide, distribution(a=0.4, b=0.3)) < kl(wide, distribution(a=0.4, b=0.3, c=0.25, d=0.05))
    assert kl(one, {}) == 0.0  # nothing is known, nothing is claimed


def test_kl_is_large_where_what_was_likeliest_is_not_even_named():
    one, other = distribution(a=0.99, b=0.01), distribution(c=0.6, d=0.3)
    assert kl(one, other) == pytest.approx(0.99 * math.log(0.99 / 0.3) + 0.01 * math.log(0.01 / 0.3))


def test_how_far_distributions_are_apart_is_a_score_of_its_own():
    evaluator = Right()
    trained, form = (
        answers(evaluator, [1, 1, 1])._replace(likeliest=[[one, one], [one, one]])
        for one in (distribution(a=0.7, b=0.3), distribution(a=0.5, b=0.5))
    )
    found = certificate(trained, form, None, 0)
    assert found["kl"] == pytest.approx(0.7 * math.log(1.4) + 0.3 * math.log(0.6))
    assert found["scores"]["kl"]["n"] == 2
    assert certificate(trained._replace(likeliest=None), form, None, 0)["kl"] is None


# ---------------------------------------------------------------- the process apart


@pytest.fixture
def tokenizer(fakes):
    from tunewright_fakes import FakeTokenizer

    return FakeTokenizer()


def form_of_nothing(**parts):
    found = {"loader": {"kind": "fake"}, "engine": {"kind": "fake"}, "quantizer": {"kind": "fake"},
             "adapter": {"kind": "fake"}, **parts}  # fmt: skip
    return {"base": "/nowhere", "saved": None, "speaks": None, "dtype": "fp32", "parts": found, "blocked": []}


def test_a_process_that_dies_says_its_last_words(tokenizer, fresh_process, tmp_path):
    form = form_of_nothing()
    del form["dtype"]  # no form of ours: what is not foreseen is a traceback
    with pytest.raises(WorkFailed, match="KeyError: 'dtype'"), apart(form, tokenizer, tmp_path):
        pytest.fail("it was opened")


def test_what_cannot_be_opened_there_is_refused_here_by_the_same_error(tokenizer, fresh_process, tmp_path):
    with pytest.raises(BadInput, match="nowhere holds no"), apart(form_of_nothing(), tokenizer, tmp_path):
        pytest.fail("it was opened")


def test_what_is_refused_there_is_refused_here_by_the_same_error(tokenizer, fresh_process, fake_spec, host, tmp_path):
    summary = run(fake_spec, host, tmp_path / "root")
    files = summary["artifacts"]["whole"]
    form = {**form_of_nothing(), "base": files, "speaks": files}
    (tmp_path / "scratch").mkdir()
    with apart(form, tokenizer, tmp_path / "scratch") as subject:
        with pytest.raises(BadInput, match="nothing stands before"):
            subject.score([([], [65], "")])
        done = []
        (answer,) = subject.complete([[{"role": "user", "content": "the lamp is broken"}]], 40, done.append)
        assert (answer.text, answer.stopped, done) == ("repair", "terminator", [1])
        assert subject.tokens == len(answer.ids)
        assert subject.peak_rss_bytes > 1e6
