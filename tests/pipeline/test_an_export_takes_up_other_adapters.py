"""An export that reads what other runs trained: verified, bound to the base, in the key, and proven when reopened."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from fake_project import FIRST_PARTY
from tunewright import Host, hookimpl
from tunewright.digest import digest_json
from tunewright.errors import Refused
from tunewright.handoff.bound import bound_to
from tunewright.parts import Exporter, Options, SpecPath
from tunewright.parts.exporter import ExporterOptions, Form
from tunewright.project import Project
from tunewright.spec.problems import SpecError


class One(BaseModel):
    model_config = Options.model_config

    path: Annotated[SpecPath, Field(description="A package.")]
    other_quantization: Annotated[bool, Field(description="Of whatever quantization.")] = False


class BlendOptions(ExporterOptions):
    kind: str = "blend"
    adapters: Annotated[list[One], Field(min_length=1, description="Adapters of other runs.")]
    lies: Annotated[bool, Field(description="It says another digest than it writes.")] = False


class Blend(Exporter):
    """The trained table, and whatever the others know besides."""

    kind, Options = "blend", BlendOptions
    reads = frozenset({"adapters", "lies"})

    def takes_up(self):
        return {f"adapters.{place}.path": one.path for place, one in enumerate(self.options.adapters)}

    def takes_other_quantization(self):
        return [f"adapters.{place}.path" for place, one in enumerate(self.options.adapters) if one.other_quantization]

    def draws(self):
        return self.options.lies  # any option will do

    def export(self, trained, out):
        from tunewright_fakes import read_safetensors, write_safetensors

        folders = [*(path.path for path in self.takes_up().values()), trained.saved]
        tables = [json.loads(read_safetensors(folder / "adapter_model.safetensors")) for folder in folders]
        table = {word: queue for one in tables for word, queue in one.items()}
        write_safetensors(out / "adapter_model.safetensors", "table", json.dumps(table, sort_keys=True).encode())
        (out / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        return Form(trained.engine, attach=True, digest="0" * 64 if self.options.lies else digest_json(table))


@pytest.fixture
def host(fakes):
    table = {"exporter/blend": f"{__name__}:Blend"}
    return Host(blocked=FIRST_PARTY, extra={"blend": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


@pytest.fixture
def package(fake_spec, host, cache):
    """The package of another run on the same base, which knows of roofs; beside the spec, under `other/`."""
    (fake_spec.parent / "roofs.csv").write_text("text,queue\nthe roof leaks,repair\n")
    other = fake_spec.with_name("other.yaml")
    other.write_text(fake_spec.read_text().replace("path: train.csv", "path: roofs.csv"))
    found = Project(other, ("gates=[]",), host).run(fake_spec.parent / "first").summary["artifacts"]["package"]
    return Path(found).rename(fake_spec.parent / "other")


def run(spec, host, *overrides, entry="{path: other}", lies="false"):
    folder = spec.parent / "specs"
    folder.mkdir(exist_ok=True)
    child = folder / "child.yaml"  # paths are relative to the file that wrote them, also those of a list's entries
    child.write_text(f"extends: ../client.yaml\nexports: [{{kind: blend, lies: {lies}, adapters: [{entry}]}}]\n")
    return Project(child, overrides, host).run(spec.parent / "second").summary


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


def test_a_combined_adapter_is_certified_by_its_own_tensors_and_handed_over(fake_spec, host, package):
    summary = run(fake_spec, host, entry="{path: ../other}")
    blend, adapter = summary["parity"]["blend"], summary["parity"]["adapter"]
    assert blend["refused"] == []
    assert blend["identity"] != adapter["identity"]
    assert blend["scores"]["fake.right"]["n"] == 3, "its test rows are asked: it is not the trained form"
    made = Path(summary["artifacts"]["package"])
    raw = (made / "forms/blend/adapter_model.safetensors").read_bytes()
    assert b"roof" in raw
    assert b"parcel" in raw
    base = json.loads((made / "manifest.json").read_text())["base"]["identity"]
    assert bound_to(made / "forms/blend") == base, "combined anew, it still says which base it is of"
    (taken,) = json.loads((made / "manifest.json").read_text())["forms"]["blend"]["taken_up"].values()
    assert (taken["name"], taken["version"]) == ("acme", "0.1.0")
    assert "blend is made with acme 0.1.0" in (made / "MODEL_CARD.md").read_text()


def test_it_is_made_anew_where_another_adapter_changes_and_not_where_it_only_moves(fake_spec, host, package):
    run(fake_spec, host, entry="{path: ../other}")
    package.rename(package.with_name("moved"))
    assert statuses(run(fake_spec, host, entry="{path: ../moved}"))["export-blend"] == "cached"
    (package.with_name("moved") / "manifest.json").unlink()  # a bare folder of the same adapter is other content
    again = statuses(run(fake_spec, host, entry="{path: ../moved}"))
    assert (again["train"], again["export-blend"]) == ("cached", "done")


def test_the_seed_counts_only_where_it_draws(fake_spec, host, package):
    def keys(lies, seed):
        exports = f"exports=[{{kind: blend, lies: {lies}, adapters: [{{path: {package}}}]}}]"
        plan = Project(fake_spec, (exports, f"seed={seed}"), host).plan()
        return next(step.task.settings() for step in plan.steps if step.name == "export-blend")

    assert keys("true", 1) != keys("true", 2)
    assert keys("false", 1) == keys("false", 2)


def test_an_altered_package_is_refused_before_the_training(fake_spec, host, package):
    weights = package / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"roof", b"rook"))
    with pytest.raises(Refused, match=r"the package `../other` does not verify"):
        run(fake_spec, host, entry="{path: ../other}")
    assert begun(fake_spec) == ["fetch"]


def test_a_package_of_another_base_is_refused_before_the_training(fake_spec, host, package, monkeypatch):
    from tunewright_fakes import FakeSource, write_safetensors

    fetch = FakeSource.fetch

    def other(self, pin, out):
        fetch(self, pin, out)
        write_safetensors(out / "model.safetensors", "base", b"other weights")

    monkeypatch.setattr(FakeSource, "fetch", other)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(fake_spec.parent / "another cache"))
    with pytest.raises(Refused, match="is of another base"):
        run(fake_spec, host, entry="{path: ../other}")
    assert begun(fake_spec) == ["fetch"]


def test_a_package_of_another_quantization_is_refused_before_the_training_unless_its_entry_says_so(
    fake_spec, host, package, monkeypatch
):
    from tunewright_fakes import FakeQuantizer

    monkeypatch.setattr(FakeQuantizer, "describe", lambda self: {"load_in_4bit": True})
    says = r"`../other` was trained over another quantization .*\(none\) .* \(`fake`: load_in_4bit: true\)"
    for entries in ("{path: ../other}", "{path: ../other, other_quantization: true}, {path: ../other}"):
        with pytest.raises(Refused, match=says):
            run(fake_spec, host, entry=entries)
        assert begun(fake_spec) == ["fetch"]
    summary = run(fake_spec, host, entry="{path: ../other, other_quantization: true}")
    assert summary["parity"]["blend"]["refused"] == []


def begun(spec):
    """The steps that the last run came to."""
    return [step["name"] for step in json.loads((spec.parent / "second/latest/run.json").read_text())["steps"]]


def test_a_folder_that_is_not_there_stands_at_its_own_entry(fake_spec, host, package):
    with pytest.raises(SpecError) as caught:
        run(fake_spec, host, entry="{path: ../other}, {path: ../gone}")
    ((problem),) = caught.value.problems
    assert (problem.code, problem.message) == ("file-missing", "there is no folder `../gone`")
    line = (fake_spec.parent / "specs/child.yaml").read_text().splitlines()[problem.position.line - 1]
    assert line[problem.position.column - 1 :].startswith("../gone")


def test_a_form_that_does_not_carry_what_was_exported_is_left_out(fake_spec, host, package):
    summary = run(fake_spec, host, entry="{path: ../other}", lies="true")
    assert summary["status"] == "passed"
    (why,) = summary["parity"]["blend"]["refused"]
    assert why.startswith("it cannot be opened: the weights that were loaded (")
    assert "are not the exported ones (000000000000)" in why
    assert not (Path(summary["artifacts"]["package"]) / "forms").exists()
