"""The trained form, reopened, is judged by what it answers there, not by what was answered before it was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tunewright.errors import Refused
from tunewright.pipeline import certify
from tunewright.pipeline.apart import Apart
from tunewright.project import Project

GOLDEN, ROWS = 8, 18


@pytest.fixture
def spec(fake_spec):
    """Enough test rows for a loss that is no chance."""
    rows = ["the parcel never came,delivery", "please repair it,repair", "give me my money,refund"] * (ROWS // 3)
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + "".join(f"{row}\n" for row in rows))
    return fake_spec


def run(spec, host, root, *overrides):
    return Project.from_spec(spec, overrides=["gates=[]", *overrides], host=host).run(root).summary


def answering(monkeypatch, otherwise, golden, rows=0):
    """Let the reopened form answer the first so many golden prompts, and test rows, `otherwise`; the calls it got."""
    complete, calls = Apart.complete, []

    def asked(self, prompts, limit, progress=None, *, together=True):
        found = complete(self, prompts, limit, progress, together=together)
        calls.append(len(prompts))
        wrong = rows if together else golden
        return [otherwise(answer) if place < wrong else answer for place, answer in enumerate(found)]

    monkeypatch.setattr(Apart, "complete", asked)
    return calls


def mute(answer):
    """It says what no row asks for."""
    return replace(answer, ids=[ord("x"), *answer.ids[1:]], text=f"x{answer.text[1:]}")


def endless(answer):
    """It does not know the token that ends an answer."""
    return replace(answer, ids=[*answer.ids[:-1], ord("x")], text=f"{answer.text}x", stopped="limit")


def test_as_long_as_it_answers_the_same_it_is_asked_golden_prompts_and_only_these_count(
    spec, fake_host, tmp_path, monkeypatch
):
    calls = answering(monkeypatch, mute, golden=0)
    row = run(spec, fake_host, tmp_path)["parity"]["adapter"]
    assert calls == [GOLDEN]
    assert (row["prompts"], row["scores"]["agreement"]["n"], row["agreement"]) == (GOLDEN, GOLDEN, 1.0)
    assert (row["scores"]["fake.right"]["n"], row["delta"]) == (ROWS, 0.0)  # the evaluation's own


def test_one_other_golden_answer_and_it_is_asked_every_test_row(spec, fake_host, tmp_path, monkeypatch):
    calls = answering(monkeypatch, mute, golden=1)
    summary = run(spec, fake_host, tmp_path)
    row = summary["parity"]["adapter"]
    assert calls == [GOLDEN, ROWS]
    assert (row["prompts"], row["diverged"], row["first_divergence"], row["refused"]) == (GOLDEN + ROWS, 1, 0, [])
    assert 0.9 < row["agreement"] < 1
    assert summary["status"] == "passed"


def test_a_text_that_its_tokenizer_reads_otherwise_is_another_answer(spec, fake_host, tmp_path, monkeypatch):
    calls = answering(monkeypatch, lambda answer: replace(answer, text="Delivery"), golden=1)
    run(spec, fake_host, tmp_path)
    assert calls == [GOLDEN, ROWS]


@pytest.mark.parametrize(
    ("otherwise", "says"),
    [
        (mute, "fake.right falls behind: 0.000 where the trained form has 1.000 on 18 rows"),
        (endless, "none of its answers ends"),
    ],
)
def test_reopened_it_answers_otherwise_and_the_run_ends(spec, fake_host, tmp_path, monkeypatch, otherwise, says):
    answering(monkeypatch, otherwise, golden=GOLDEN, rows=ROWS)
    with pytest.raises(Refused, match=f"`adapter` holds the trained tensors, and reopened in a fresh process {says}"):
        run(spec, fake_host, tmp_path)


def test_reopened_it_answers_as_the_base_does_and_the_run_ends(spec, fake_host, tmp_path, monkeypatch):
    """An engine that passes over the adapter, whatever digest it tells."""
    opened = certify.apart

    def unattached(form, tokenizer, scratch):
        return Untold(opened({**form, "saved": None}, tokenizer, scratch), digest)

    class Untold:
        def __init__(self, within, digest):
            self.within, self.digest = within, digest

        def __enter__(self):
            subject = self.within.__enter__()
            subject.identity = self.digest
            return subject

        def __exit__(self, *raised):
            return self.within.__exit__(*raised)

    digest = run(spec, fake_host, tmp_path / "before")["parity"]["adapter"]["identity"]
    monkeypatch.setattr(certify, "apart", unattached)
    with pytest.raises(Refused, match="it answers every test row as the base does: what was trained is not in it"):
        run(spec, fake_host, tmp_path / "after")


def test_prompts_that_become_other_tokens_when_it_is_reopened_end_the_run(spec, fake_host, tmp_path, monkeypatch):
    opened, bare = certify.apart, Path(tmp_path / "bare")
    bare.mkdir()
    (bare / "tokenizer.json").write_text("{}")  # and no template
    monkeypatch.setattr(certify, "apart", lambda form, *rest: opened({**form, "speaks": str(bare)}, *rest))
    says = f"`adapter` holds the trained tensors, and .* {GOLDEN + ROWS} of {GOLDEN + ROWS} prompts become other tokens"
    with pytest.raises(Refused, match=says):
        run(spec, fake_host, tmp_path)


def test_tokens_a_second_are_of_what_every_form_is_asked_alike(spec, fake_host, tmp_path, monkeypatch):
    """Rows that are answered in a batch would make a form look faster that is asked them beside golden prompts."""
    complete = Apart.complete

    def timed(self, prompts, limit, progress=None, *, together=True):
        tokens, seconds = self.tokens, self.seconds
        found = complete(self, prompts, limit, progress, together=together)
        self.tokens, self.seconds = tokens + (900 if together else 20), seconds + 2
        return found

    monkeypatch.setattr(Apart, "complete", timed)
    parity = run(spec, fake_host, tmp_path, "exports=[made]")["parity"]
    assert parity["made"]["prompts"] == GOLDEN + ROWS
    assert {form: row["tokens_per_second"] for form, row in parity.items()} == {"adapter": 10, "made": 10}
