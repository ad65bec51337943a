"""`run --search-export`: where an export is refused, other options of it are tried, by the same certificate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import Field
from typer.testing import CliRunner

from fake_project import FIRST_PARTY
from tunewright import Host, hookimpl
from tunewright.cli.tables import print_result
from tunewright.errors import BadInput, EnvironmentFault, WorkFailed
from tunewright.parts import Exporter, Facts, Finding
from tunewright.parts.exporter import ExporterOptions, Form
from tunewright.pipeline.variants import MOST, line_of, variants_of
from tunewright.project import Project

QUEUES = {"parcel": "delivery", "repair": "repair", "money": "refund"}


class NarrowOptions(ExporterOptions):
    kind: str = "narrow"
    width: Annotated[int, Field(description="Of how many queues it knows the word.")] = 1
    padding: Annotated[int, Field(description="Bytes beside the weights.")] = 0
    rows: Annotated[int, Field(description="Rows to look at; there are fewer.")] = 32
    fails: Annotated[bool, Field(description="It cannot be made.")] = False


class Narrow(Exporter):
    """A whole model that remembers some of what was trained."""

    kind, Options = "narrow", NarrowOptions
    reads = frozenset({"width", "padding", "rows", "fails"})
    offered = ({"width": 2}, {"width": 3}, {"width": 3, "padding": 8})
    made: list[str] = []  # what was exported, in its order
    interrupted = False

    def variants(self, facts):
        return self.offered

    def export(self, trained, out):
        from tunewright_fakes import write_safetensors

        self.made.append(line_of(self))
        assert not any(out.iterdir())
        trained.merge(out, "fp32", "original")
        if self.options.fails:
            raise WorkFailed("the library gave up")
        if self.interrupted and self.options.width == 3:
            raise KeyboardInterrupt
        said = {word: {queue: 1.0} for word, queue in list(QUEUES.items())[: self.options.width]}
        write_safetensors(out / "model.safetensors", "base", json.dumps(said).encode())
        (out / "padding").write_bytes(b"-" * self.options.padding)
        return Form(trained.engine, attach=False, dtype="fp32", speaks=True)


@pytest.fixture
def host(fakes, monkeypatch):
    monkeypatch.setattr(Narrow, "made", [])
    table = {"exporter/narrow": f"{__name__}:Narrow"}
    return Host(blocked=FIRST_PARTY, extra={"narrow": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


@pytest.fixture
def spec(fake_spec):
    """Enough test rows for a loss that is no chance."""
    asked = {"delivery": "the parcel never came", "repair": "please repair it", "refund": "give me my money"}
    rows = [f"{text} {number},{queue}" for number in range(6) for queue, text in asked.items()]
    (fake_spec.parent / "test.csv").write_text("text,queue\n" + "\n".join(rows) + "\n")
    return fake_spec


def run(spec, host, root, exports="narrow", *overrides, search=("narrow",), heard=None):
    project = Project.from_spec(spec, overrides=[f"exports=[{exports}]", *overrides], host=host)
    return project.run(root, heard, search).summary


def reasons(search):
    """Of each line of the table, how often it is refused."""
    return [(one["written"], len(one["refused"])) for one in search["tried"]]


def test_the_first_variant_that_passes_is_handed_over_under_the_exports_name(spec, host, tmp_path, capsys):
    summary = run(spec, host, tmp_path)
    assert summary["status"] == "passed"
    found = summary["search"]["narrow"]
    lines = ["{kind: narrow}", "{kind: narrow, width: 2}", "{kind: narrow, width: 3}"]
    assert Narrow.made == lines  # and none after it
    assert reasons(found) == [(lines[0], 1), (lines[1], 1), (lines[2], 0)]
    assert found["found"] == lines[2]
    own, second, third = found["tried"]
    assert [one["scores"]["fake.right"]["tuned"] for one in found["tried"]] == pytest.approx([1 / 3, 2 / 3, 1])
    assert second["refused"][0].startswith("fake.right falls behind: 0.667 where the trained form has 1.000 on 18 rows")
    assert own["bytes"] < second["bytes"] < third["bytes"]
    # what follows knows it as it knows any form
    row = summary["parity"]["narrow"]
    assert (row["agreement"], row["refused"], row["identity"]) == (1.0, [], third["identity"])
    assert row["peak_rss_bytes"] > 1e6  # of its own process
    files = Path(summary["artifacts"]["narrow"])
    package = Path(summary["artifacts"]["package"])
    assert b"refund" in (files / "model.safetensors").read_bytes()
    for file in files.iterdir():
        assert (package / "forms/narrow" / file.name).read_bytes() == file.read_bytes()
    certified = json.loads((package / "certificate.json").read_text())
    assert certified["narrow"]["search"] == found
    assert "search" not in certified["adapter"]
    assert json.loads((package / "manifest.json").read_text())["forms"]["narrow"]["found"] == lines[2]
    assert "narrow is made by {kind: narrow, width: 3}" in (package / "MODEL_CARD.md").read_text()
    subprocess.run([sys.executable, "-I", str(package / "verify.py")], check=True, capture_output=True)
    page = Path(summary["artifacts"]["report"]).read_text()
    assert 'write <span class="code">{kind: narrow, width: 3}</span> under' in page
    assert all(line in page for line in lines)
    print_result(summary)
    said = capsys.readouterr().out
    assert "narrow passes so; to write into the spec: {kind: narrow, width: 3}" in said
    assert "   refused: fake.right falls behind: 0.667" in said


def test_a_form_that_passes_as_it_is_written_is_not_searched(spec, host, tmp_path, capsys):
    written = "{kind: narrow, width: 3}"
    summary = run(spec, host, tmp_path, written)
    assert Narrow.made == [written]
    found = summary["search"]["narrow"]
    assert (found["found"], reasons(found)) == (written, [(written, 0)])
    assert (Path(summary["artifacts"]["package"]) / "forms/narrow/model.safetensors").is_file()
    assert summary["artifacts"]["narrow"].endswith("steps/export-narrow/files")
    sentence = "is handed over as the spec writes it"
    assert (
        f"Nothing was searched: <strong>narrow</strong> {sentence}" in Path(summary["artifacts"]["report"]).read_text()
    )
    print_result(summary)
    assert f"nothing was searched: narrow {sentence}" in capsys.readouterr().out


def test_where_none_passes_the_export_stays_out_and_each_says_why(spec, host, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Narrow, "offered", ({"width": 2}, {"fails": True}, {"width": 1}, {"padding": 0}))
    summary = run(spec, host, tmp_path)
    assert summary["status"] == "passed"  # as after any export that is refused
    found = summary["search"]["narrow"]
    assert (found["found"], len(found["tried"])) == (None, 3)
    assert found["tried"][2]["refused"] == ["it cannot be made, or not be opened: the library gave up"]
    assert (found["tried"][2]["agreement"], found["tried"][2]["bytes"]) == (None, None)
    row = summary["parity"]["narrow"]
    assert row["scores"]["fake.right"]["tuned"] == pytest.approx(1 / 3)  # that of the spec's own
    assert summary["artifacts"]["narrow"].endswith("steps/export-narrow/files")
    assert not (Path(summary["run_dir"]) / "steps/search-narrow/files").exists()  # what is refused is not kept
    package = Path(summary["artifacts"]["package"])
    assert not (package / "forms").exists()
    assert json.loads((package / "certificate.json").read_text())["narrow"]["search"] == found
    page = Path(summary["artifacts"]["report"]).read_text()
    assert "None passed: narrow is not handed over." in page
    assert "the library gave up" in page
    print_result(summary)
    assert "none passes: narrow is not handed over" in capsys.readouterr().out


def test_what_was_done_is_not_done_again(spec, host, tmp_path):
    plain = run(spec, host, tmp_path, search=())
    assert (plain["search"], Narrow.made) == ({}, ["{kind: narrow}"])
    first = run(spec, host, tmp_path)
    done = [step["name"] for step in first["steps"] if step["status"] == "done"]
    assert done == ["search-narrow", "gate", "report", "package"]  # neither the export nor its certificate
    made = list(Narrow.made)
    second = run(spec, host, tmp_path)
    assert {step["status"] for step in second["steps"]} == {"cached"}
    assert (second["search"], second["parity"], Narrow.made) == (first["search"], first["parity"], made)
    again = run(spec, host, tmp_path, search=())
    assert {step["status"] for step in again["steps"]} == {"cached"}
    assert again["parity"] == plain["parity"]


def test_the_line_that_passed_makes_the_same_form_once_it_is_written(spec, host, tmp_path):
    searched = run(spec, host, tmp_path)
    written = run(spec, host, tmp_path, searched["search"]["narrow"]["found"], search=())
    measured = ("identity", "bytes", "scores", "agreement", "refused")
    one, other = ({key: summary["parity"]["narrow"][key] for key in measured} for summary in (searched, written))
    assert one == other
    assert written["artifacts"]["narrow"].endswith("steps/export-narrow/files")


def test_other_variants_are_another_search(spec, host, tmp_path, monkeypatch):
    monkeypatch.setattr(Narrow, "offered", ({"width": 3},))
    run(spec, host, tmp_path)
    monkeypatch.setattr(Narrow, "offered", ({"width": 3, "padding": 8},))
    again = run(spec, host, tmp_path)
    assert again["search"]["narrow"]["found"] == "{kind: narrow, width: 3, padding: 8}"


def test_an_interrupted_search_goes_on_with_the_variant_that_it_was_at(spec, host, tmp_path, monkeypatch):
    monkeypatch.setattr(Narrow, "interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        run(spec, host, tmp_path)
    monkeypatch.setattr(Narrow, "interrupted", False)
    made = len(Narrow.made)
    found = run(spec, host, tmp_path)["search"]["narrow"]
    assert Narrow.made[made:] == ["{kind: narrow, width: 3}"]
    assert [refused for _, refused in reasons(found)] == [1, 1, 0]


def test_a_form_that_was_refused_under_other_options_is_not_asked_again(spec, host, tmp_path, monkeypatch):
    monkeypatch.setattr(Narrow, "offered", ({"rows": 128}, {"width": 3}))
    heard = []
    found = run(spec, host, tmp_path, heard=heard.append)["search"]["narrow"]
    assert found["tried"][1]["refused"] == ["it is the very form of {kind: narrow}"]
    opened = [event for event in heard if event["event"] == "progress" and "reopening narrow" in event["what"]]
    assert len(opened) == 2  # the spec's own, and the last


def test_a_gate_on_the_form_alone_judges_its_variants_too(spec, host, tmp_path, monkeypatch):
    """Certified is not enough where the run would fail all the same."""
    monkeypatch.setattr(Narrow, "offered", ({"width": 2}, {"width": 3}))
    gate = "gates=[{kind: fake, metric: parity.narrow.fake.right, at_least: 0.9}, {kind: fake}]"
    few = spec.parent / "test.csv"
    few.write_text("text,queue\nthe parcel never came,delivery\nplease repair it,repair\ngive me my money,refund\n")
    summary = run(spec, host, tmp_path, "narrow", gate)
    assert summary["parity"]["narrow"]["refused"] == []
    found = summary["search"]["narrow"]
    assert [refused for _, refused in reasons(found)] == [1, 1, 0]  # of three rows no loss is more than chance
    assert found["tried"][0]["refused"][0].startswith("the gate fails: parity.narrow.fake.right is at least 0.9; it is")
    assert summary["status"] == "passed"


def test_two_exports_are_searched_one_after_the_other(spec, host, tmp_path):
    summary = run(spec, host, tmp_path, "narrow, {kind: narrow, name: other, padding: 4}", search=("narrow", "other"))
    assert [summary["search"][name]["found"] for name in ("narrow", "other")] == [
        "{kind: narrow, width: 3}", "{kind: narrow, name: other, width: 3, padding: 4}",
    ]  # fmt: skip
    assert all(not summary["parity"][name]["refused"] for name in ("narrow", "other"))
    package = Path(summary["artifacts"]["package"])
    assert {path.name for path in (package / "forms").iterdir()} == {"narrow", "other"}


# ---------------------------------------------------------------- what is tried


def variants(**written):
    made = Narrow(NarrowOptions.model_validate({"kind": "narrow", **written}))
    return [line_of(one) for one in variants_of(made, Facts())]


def test_what_the_spec_writes_stays_and_nothing_is_tried_twice(monkeypatch):
    offered = ({"padding": 1}, {"width": 2, "padding": 1}, {"width": 3}, {"width": 1, "padding": 0})
    monkeypatch.setattr(Narrow, "offered", offered)
    assert variants() == [
        "{kind: narrow, padding: 1}",
        "{kind: narrow, width: 2, padding: 1}",
        "{kind: narrow, width: 3}",
    ]
    assert variants(width=1) == ["{kind: narrow, width: 1, padding: 1}"]
    assert variants(padding=7, name="a") == [
        "{kind: narrow, name: a, width: 2, padding: 7}", "{kind: narrow, name: a, width: 3, padding: 7}",
    ]  # fmt: skip


def test_an_export_with_an_engine_of_its_own_is_searched_with_it(monkeypatch):
    given = {"kind": "narrow", "engine": {"kind": "slow", "words": 3}}
    (first, *_) = variants_of(Narrow(NarrowOptions.model_validate(given)), Facts())
    assert line_of(first) == "{kind: narrow, engine: {kind: slow, words: 3}, width: 2}"


def test_at_most_six_and_none_that_its_own_check_refuses(monkeypatch):
    monkeypatch.setattr(Narrow, "offered", tuple({"width": width} for width in range(2, 12)))
    odd = lambda self, facts: [Finding("bad-value", "it is odd", "width")] if self.options.width % 2 else []  # noqa: E731
    assert len(variants()) == MOST == 6
    monkeypatch.setattr(Narrow, "check", odd)
    assert variants() == [f"{{kind: narrow, width: {width}}}" for width in (2, 4, 6, 8, 10)]


def test_a_variant_that_the_exporter_itself_does_not_take_names_it(monkeypatch):
    monkeypatch.setattr(Narrow, "offered", ({"widht": 2},))
    with pytest.raises(EnvironmentFault, match="exporter `narrow` offers a variant that it does not take: widht"):
        variants()


@pytest.mark.parametrize(
    ("exports", "search", "message", "fix"),
    [
        ("narrow", "narow", "the spec has no export `narow`", "did you mean `narrow`?"),
        ("narrow", "adapter", "exporter `adapter` has no variants to try", "search `narrow`"),
        ("", "adapter", "exporter `adapter` has no variants to try", "exporters that have: made, narrow"),
        ("{kind: narrow, width: 1, padding: 0}", "narrow", "the spec itself writes padding, width", "leave out those"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_done(spec, host, tmp_path, exports, search, message, fix):
    with pytest.raises(BadInput) as caught:
        run(spec, host, tmp_path, exports, search=(search,))
    assert caught.value.message.startswith(f"`--search-export {search}`: ")
    assert message in caught.value.message
    assert fix in caught.value.fix
    assert not (tmp_path / "store").exists()


def test_a_misspelt_name_is_said_before_any_row_is_read(spec, host, tmp_path):
    rows = spec.parent / "train.csv"
    rows.write_text(f"{rows.read_text()}a message,\n")  # without an answer
    with pytest.raises(BadInput, match="the spec has no export `narow`"):
        run(spec, host, tmp_path, search=("narow",))


def test_a_rehearsal_takes_no_search(spec):
    from tunewright.cli.main import app

    result = CliRunner().invoke(app, ["run", str(spec), "--rehearse-resume", "--search-export", "narrow"])
    assert isinstance(result.exception, BadInput)
