"""An adapter that its server puts on the base's own files is asked on these, whatever it was trained on."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_project import FIRST_PARTY
from tunewright import Host, hookimpl
from tunewright.parts import Cap
from tunewright.parts.model_source import Pin
from tunewright.pipeline import certify
from tunewright.pipeline.forms import Opener
from tunewright.project import Project

EXPORTS = "exports=[{kind: served}, {kind: served, name: again}]"


@pytest.fixture
def host(fakes):
    """`served` is put on the base's files; `wordy` packs a base while it is loaded, `plain` leaves it as it is."""
    import tunewright_fakes

    class WordyOptions(tunewright_fakes.KindOnly):
        kind: str = "wordy"

    class Wordy(tunewright_fakes.FakeQuantizer):
        kind, Options = "wordy", WordyOptions

        def offers(self):
            return frozenset({Cap.TRAINABLE})

        def prepare(self, model, use):  # what it leaves of a base outvotes what is learnt
            model.known = {"please": {"delivery": 1e9}}

    class NoneOptions(tunewright_fakes.KindOnly):
        kind: str = "none"

    class Plain(tunewright_fakes.FakeQuantizer):
        kind, Options = "none", NoneOptions

    class ServedOptions(tunewright_fakes.FakeExporterOptions):
        kind: str = "served"

    class Served(tunewright_fakes.FakeExporter):
        kind, Options, on_stored = "served", ServedOptions, True

        def export(self, trained, out):
            (out / "published.json").write_text(json.dumps(trained.published))
            return super().export(trained, out)

    vars(sys.modules[__name__]).update(Wordy=Wordy, Plain=Plain, Served=Served)
    names = {"quantizer/wordy": "Wordy", "quantizer/none": "Plain", "exporter/served": "Served"}
    table = {key: f"{__name__}:{name}" for key, name in names.items()}
    return Host(blocked=FIRST_PARTY, extra={"served": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


@pytest.fixture
def asked(host, monkeypatch):
    """By the folder of each form that was reopened, the quantizer that it was opened with."""
    found = {}

    @contextmanager
    def seen(form, tokenizer, scratch):
        """In this process: a fresh one knows the fakes alone."""
        found[Path(form["saved"]).parents[0].resolve().name] = form["parts"]["quantizer"]["kind"]
        parts = {name: host.make(name, options) for name, options in form["parts"].items()}
        with Opener(**parts, dtype=form["dtype"]).served(Path(form["base"]), Path(form["saved"])) as subject:
            subject.gives_likeliest, subject.seconds, subject.peak_rss_bytes = False, 0, 0
            yield subject

    monkeypatch.setattr(certify, "apart", seen)
    return found


@pytest.fixture
def spec(fake_spec):
    rows = ["the parcel never came,delivery", "please repair it,repair", "give me my money,refund"] * 6
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + "".join(f"{row}\n" for row in rows))
    return fake_spec


def run(spec, host, root, quantizer):
    changes = [f"quantization={quantizer}", EXPORTS, "gates=[]"]
    return Project.from_spec(spec, overrides=changes, host=host).run(root).summary


def test_it_has_scores_of_its_own_where_the_base_was_packed_for_the_training(spec, host, tmp_path, asked):
    summary = run(spec, host, tmp_path, "wordy")
    assert sorted(asked.values()) == ["none", "none", "wordy"]
    score = summary["parity"]["served"]["scores"]["fake.right"]
    assert (score["base"], score["tuned"]) == (pytest.approx(2 / 3), 1.0)
    assert summary["parity"]["adapter"]["scores"]["fake.right"]["tuned"] == pytest.approx(2 / 3)
    assert summary["parity"]["served"]["identity"] == summary["parity"]["adapter"]["identity"]
    package = Path(summary["artifacts"]["package"])
    forms = json.loads((package / "manifest.json").read_text())["forms"]
    assert {name: form["base"] for name, form in forms.items()} == {
        "adapter": "trained", "served": "stored", "again": "stored",
    }  # fmt: skip
    card = (package / "MODEL_CARD.md").read_text()
    assert "- served was asked on the base without the quantization of the training, as it is served." in card
    assert "- adapter was asked" not in card


@pytest.mark.parametrize("quantizer", ["fake", "{kind: made, rows: 2}"])
def test_where_the_files_are_what_was_trained_on_it_has_the_trained_forms_scores(
    spec, host, tmp_path, asked, quantizer
):
    summary = run(spec, host, tmp_path, quantizer)
    kind = "made" if "made" in quantizer else "fake"
    assert set(asked.values()) == {kind}
    assert summary["parity"]["served"]["prompts"] == summary["parity"]["adapter"]["prompts"]
    assert "was asked on the base" not in (Path(summary["artifacts"]["package"]) / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("quantizer", "published"), [("fake", ["acme/one", "c0ffee"]), ("{kind: made, rows: 2}", None)], ids=["hub", "made"]
)
def test_an_export_and_the_card_are_told_the_commit_of_a_base_and_none_of_one_that_was_made_here(
    spec, host, tmp_path, asked, monkeypatch, quantizer, published
):
    import tunewright_fakes

    pin = Pin({"repo": "acme/one", "commit": "c0ffee", "files": "0" * 64})
    monkeypatch.setattr(tunewright_fakes.FakeSource, "pin", lambda self: pin)
    artifacts = run(spec, host, tmp_path, quantizer)["artifacts"]
    assert json.loads((Path(artifacts["served"]) / "published.json").read_text()) == published
    base = json.loads((Path(artifacts["package"]) / "manifest.json").read_text())["base"]
    assert [base.get("repo"), base.get("revision")] == (published or [None, None])
    card = (Path(artifacts["package"]) / "MODEL_CARD.md").read_text()
    assert ("revision='c0ffee'" in card) == (published is not None)
