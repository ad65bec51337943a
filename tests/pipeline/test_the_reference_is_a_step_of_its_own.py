"""What the model says of the rows before training is asked in a step of its own, by a key of what it depends on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import Field

from fake_project import FIRST_PARTY
from served_fakes import fakes as its
from tiny import tiny_model
from tunewright.errors import Refused, WorkFailed
from tunewright.host import Host, hookimpl
from tunewright.parts import Cap
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.trainer import Reference, TokenRow
from tunewright.pipeline import referred
from tunewright.pipeline.run import Run
from tunewright.project import Project
from tunewright.store.publish import Artifact, Store


class FarOptions(AdapterOptions):
    kind: str = "far"
    far: Annotated[int, Field(description="How far from the base it begins.")] = 1


class Far(its.FakeAdapter):
    """Fresh weights of it are another model than the base: only it can say what that model says."""

    kind, Options, reads = "far", FarOptions, frozenset({"far"})

    def offers(self):
        return super().offers() - {Cap.NEUTRAL}

    def wrap(self, model, parent):
        model = super().wrap(model, parent)
        if parent is None:
            model.table = {"parcel": {"w" * self.options.far: 1.0}}
        return model


@pytest.fixture
def host(fakes):
    table = {"adapter/far": f"{__name__}:Far"}
    return Host(blocked=FIRST_PARTY, extra={"far": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})


@pytest.fixture
def spec(fake_spec):
    fake_spec.write_text(fake_spec.read_text().replace("trainer: {kind: fake,", "trainer: {kind: refers,"))
    return fake_spec


def run(spec, host, *overrides):
    return Project.from_spec(spec, host=host, overrides=overrides).run(spec.parent / "root").summary


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


class Asked(NamedTuple):
    """What came of the steps before a training."""

    steps: dict[str, str]
    said: dict[str, float]
    key: str


def asked(spec, host, *overrides) -> Asked:
    """Only what a first training reads, by `Run.before_training`."""
    plan, root, steps = Project.from_spec(spec, host=host, overrides=overrides).plan(), spec.parent / "root", {}

    def hear(event):
        if event["event"] == "step":
            steps[event["step"]] = event["status"]

    with Run.open(plan, root) as run:
        run.before_training(hear)
    found = Store(root).find("reference", plan.keys["reference"])
    said = {line["row_id"]: line["said"]["length"] for line in found.lines("reference.jsonl")}
    return Asked(steps, said, plan.keys["reference"])


def trained(summary):
    return json.loads((Path(summary["run_dir"]) / "steps/train/outcome.json").read_text())["digest"]


def test_it_is_asked_once_for_every_run_that_agrees_in_what_it_reads(spec, host, monkeypatch):
    first = run(spec, host)
    assert first["status"] == "passed", first["why"]
    names = [step["name"] for step in first["steps"]]
    assert names.index("reference") == names.index("train") - 1
    plan = Project.from_spec(spec, host=host, overrides=("trainer.learning_rate=0.1", "seed=8")).plan()
    cached = {step["name"]: step["cached"] for step in plan.to_json(Store(spec.parent / "root"))["steps"]}
    assert (cached["reference"], cached["train"]) == (True, False)
    shouted = run(spec, host, "trainer.shout=true")
    assert statuses(shouted)["reference"] == "done"
    assert trained(shouted) != trained(first)
    monkeypatch.delattr(its.FakeReferring, "reference")  # what was said is given to the training: it asks nothing
    again = run(spec, host, "trainer.learning_rate=0.1", "seed=8")
    assert (statuses(again)["reference"], statuses(again)["train"]) == ("cached", "done"), again["why"]


def test_a_trainer_without_one_has_no_such_step(fake_spec, fake_host):
    assert "reference" not in Project.from_spec(fake_spec, host=fake_host).plan().keys


def test_a_seed_that_draws_rows_is_in_the_key_and_no_other(spec, host):
    def key(*overrides):
        return Project.from_spec(spec, host=host, overrides=overrides).plan().keys["reference"]

    assert key() == key("seed=8")
    for drawn in ("data.train.0.sample=3", "data.validation={kind: split, fraction: 0.5}", "data.train.0.epochs=1.5"):
        assert key(drawn) != key(drawn, "seed=8"), drawn


def test_other_rows_are_asked_anew(spec, host):
    first = asked(spec, host)
    assert first.steps["reference"] == "done"
    assert asked(spec, host).steps["reference"] == "cached"
    rows = spec.parent / "train.csv"
    rows.write_text(rows.read_text().replace("the lamp is broken", "the lamp is dark"))
    assert asked(spec, host).steps["reference"] == "done"


def test_a_method_that_begins_elsewhere_than_the_base_is_asked_itself(spec, host):
    near, far = (asked(spec, host, "adapter.kind=far", f"adapter.far={far}") for far in (1, 30))
    base, seed = asked(spec, host), asked(spec, host, "adapter.kind=far", "seed=8")
    assert near.said != far.said
    assert base.said not in (near.said, far.said)
    assert len({near.key, far.key, base.key, seed.key}) == 4  # by another seed it may draw its weights otherwise


STAGED = """\
stages:
  - {name: first, trainer: {kind: fake, learning_rate: 0.5}}
  - {name: second, trainer: {kind: refers, learning_rate: 0.5}}
"""


def test_a_stage_is_held_to_what_the_one_before_has_learnt(spec, host):
    spec.write_text(spec.read_text().replace("trainer: {kind: refers, learning_rate: 0.5}\n", STAGED))

    def key(*overrides):
        return Project.from_spec(spec, host=host, overrides=overrides).plan().keys["reference-second"]

    done = run(spec, host)
    assert done["status"] == "passed", done["why"]
    names = [step["name"] for step in done["steps"]]
    assert names[names.index("train-first") :][:3] == ["train-first", "reference-second", "train-second"]
    assert key("stages.1.trainer.learning_rate=0.75") == key()
    keys = {key(), key("stages.0.trainer.learning_rate=0.75"), key("stages.1.adapter=merge")}
    assert len(keys) == 3
    folder = Path(done["run_dir"]) / "steps/reference-second"
    lines = [json.loads(line) for line in (folder / "reference.jsonl").read_text().splitlines()]
    assert len({line["said"]["length"] - int(line["said"]["length"]) for line in lines}) > 1
    untaught = len("I do not know.")
    assert any(int(line["said"]["length"]) != untaught for line in lines)  # it answers as the stage before taught it


def test_numbers_that_are_none_are_refused_by_the_row(tmp_path):
    rows = [TokenRow("a:1", "a.csv:1", [1], [1]), TokenRow("a:2", "a.csv:2", [1], [1])]
    with pytest.raises(WorkFailed, match=r"a\.csv:2: the reference's `said` is nan"):
        referred.write(Reference([{"said": -1.0}, {"said": float("nan")}]), rows, [], tmp_path)
    referred.write(Reference([{"said": -0.1}, {"said": -1 / 3}]), rows, [], tmp_path)
    artifact = Artifact(tmp_path, {})
    assert referred.read(artifact, rows, []) == Reference([{"said": -0.1}, {"said": -1 / 3}], [])
    with pytest.raises(Refused, match="is of other rows than these"):
        referred.read(artifact, rows[::-1], [])


REAL = """\
apiVersion: tunewright/v1
name: pairs
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, alpha: 8}
data:
  format: {kind: preference, prompt: "{text}", chosen: "{queue}", rejected: "{other}"}
  train: [{kind: csv, path: train.csv}]
trainer: {kind: dpo, batch_size: 2, learning_rate: 1.0e-3}
seed: 3
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    tiny_model(folder / "base")
    (folder / "train.csv").write_text("text,queue,other\nmy parcel,delivery,account\nI paid twice,billing,delivery\n")
    (folder / "pairs.yaml").write_text(REAL)
    return folder / "pairs.yaml"


def keys(spec: Path, *overrides: str) -> Any:
    return Project.from_spec(spec, overrides=overrides).plan().keys


ALIKE = (
    "trainer.learning_rate=1.0e-2", "trainer.beta=0.5", "trainer.epochs=3", "trainer.batch_size=1", "trainer.loss=ipo",
    "adapter.r=2", "adapter.alpha=64", "adapter.dropout=0.1", "adapter.init=gaussian", "adapter.targets=attention",
    "seed=4",
)  # fmt: skip
OTHER = (
    ["model.dtype=bf16"], ["quantization.kind=nf4"], ["adapter.init=orthogonal"], ["adapter.dora=true"],
    ["quantization.kind=nf4", "adapter.init=loftq"], ["quantization.kind=nf4", "adapter.init=loftq", "adapter.r=2"],
    ["trainer.args.ld_alpha=0.5"],
)  # fmt: skip


def test_the_key_holds_what_the_numbers_depend_on(real):
    plain, alike = keys(real), keys(real, *ALIKE)
    assert alike["reference"] == plain["reference"]
    assert alike["train"] != plain["train"]
    others = [keys(real, *change)["reference"] for change in OTHER]
    assert len({plain["reference"], *others}) == 1 + len(OTHER)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_over_the_rate_asks_the_reference_once(real):
    root = real.parent / "root"
    first, again = (
        Project.from_spec(real, overrides=overrides).run(root).summary
        for overrides in ((), ("trainer.learning_rate=5.0e-3", "adapter.r=2"))
    )
    assert first["status"] == again["status"] == "passed", again["why"]
    assert (statuses(first)["reference"], statuses(again)["reference"]) == ("done", "cached")
    assert statuses(again)["train"] == "done"
