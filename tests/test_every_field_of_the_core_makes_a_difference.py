"""Every field that the core itself reads changes what comes out, not only a key; the plugins' own: tests/testing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunewright.errors import TunewrightError
from tunewright.parts import Options
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.data_source import SourceOptions
from tunewright.parts.evaluator import EvaluatorOptions
from tunewright.parts.exporter import ExporterOptions
from tunewright.parts.gate import GateOptions
from tunewright.parts.trainer import TrainerOptions
from tunewright.project import Project
from tunewright.spec.model import Data, Model, Package, Part, Spec, Split, Stage, StageData


def rows(run):
    return [row["row_id"] for row in lines(run, "prepare", "rows.jsonl")]


def ended(run):
    return "well"


def lines(run, name, file):
    return [json.loads(line) for line in (run / "steps" / name / file).read_text().splitlines()]


def summary(run):
    return json.loads((run / "run.json").read_text())


def answers(run):
    return [line["answer"]["ids"] for line in lines(run, "evaluate-tuned", "fake.jsonl")]


def manifest(run):
    return json.loads((Path(summary(run)["artifacts"]["package"]) / "manifest.json").read_text())


# field → two ways to write it, and what must differ between the two runs; an error counts as what came out
CASES = {
    (SourceOptions, "where"): ("data.train.0.where={queue: refund}", "data.train.0.where={}", rows),
    (SourceOptions, "sample"): ("data.train.0.sample=2", "data.train.0.sample=3", rows),
    (SourceOptions, "limit"): ("data.train.0.limit=1", "data.train.0.limit=2", rows),
    (SourceOptions, "epochs"): ("data.train.0.epochs=2", "data.train.0.epochs=1", rows),
    (SourceOptions, "weight"): ("data.train.0.weight=2", "data.train.0.weight=1", rows),
    (TrainerOptions, "max_length"): ("trainer.max_length=20", "trainer.max_length=500", ended),
    (EvaluatorOptions, "name"): ("evals.0.name=fake", "evals.0.name=other", lambda run: sorted(summary(run)["scores"])),
    (EvaluatorOptions, "max_new_tokens"): ("evals.0.max_new_tokens=10", "evals.0.max_new_tokens=3", answers),
    (GateOptions, "name"): (
        "gates.0.name=good enough",
        "gates.0.name=better",
        lambda run: [gate["gate"] for gate in summary(run)["gates"]],
    ),
    (ExporterOptions, "name"): (
        "exports=[{kind: adapter, name: one}]",
        "exports=[{kind: adapter, name: two}]",
        lambda run: sorted(summary(run)["artifacts"]),
    ),
    (Spec, "name"): ("name=acme", "name=zenith", lambda run: manifest(run)["name"]),
    (Spec, "requires"): ("requires=[pydantic]", "requires=[no-such-thing]", ended),
    (Spec, "seed"): ("seed=1", "seed=2", rows),
    (Spec, "baselines"): (
        "baselines=[{few_shot: 1}]",
        "baselines=[{few_shot: 2}]",
        lambda run: sorted(summary(run)["baselines"]),
    ),
    (Model, "dtype"): ("model.dtype=fp32", "model.dtype=bf16", lambda run: manifest(run)["base"]["dtype"]),
    (Package, "version"): ("package.version=1.0.0", "package.version=2.0.0", lambda run: manifest(run)["version"]),
    (Package, "license"): ("package.license=MIT", "package.license=Apache-2.0", lambda run: manifest(run)["license"]),
}
TWO = "{kind: fake, path: train.csv, weight: 1}"
# what must be written besides for a field to show
BESIDES = {
    (Spec, "seed"): ("data.train.0.sample=3",),  # it shows in what it draws
    (SourceOptions, "weight"): (f"data.train=[{TWO}, {TWO}]",),  # a share among several
}
ELSEWHERE = {
    (Options, "kind"): "chooses the backend",
    (Spec, "api_version"): "tests/spec/test_sixty_mistakes.py",
    (SourceOptions, "on_error"): "tests/data/test_rows.py",
    (TrainerOptions, "args"): "tests/pipeline/test_plan_shows_every_effective_argument.py",
    (TrainerOptions, "checkpoint_every"): "tests/tunewright_trl/test_a_resume_is_exact.py",
    (TrainerOptions, "checkpoint_minutes"): "tests/tunewright_trl/test_a_resume_is_exact.py",
    (AdapterOptions, "parent"): "tests/pipeline/test_a_training_goes_on_from_a_parent.py",
    (AdapterOptions, "other_quantization"): "tests/pipeline/test_a_training_goes_on_from_a_parent.py",
    (Stage, "name"): "tests/pipeline/test_stages_build_on_each_other.py",
    (Stage, "adapter"): "tests/pipeline/test_stages_build_on_each_other.py",
    (Split, "fraction"): "tests/data/test_splits_never_leak.py",
    (Split, "group"): "tests/data/test_splits_never_leak.py",
    (Split, "time"): "tests/data/test_splits_never_leak.py",
}


def _holds(annotation):
    """Whether a field holds sections, whose own fields are looked at instead."""
    return any(section.__name__ in str(annotation) for section in (Model, Data, Package, Stage, StageData, Split))


def fields_of_the_core():
    """Every field that no plugin owns and that is no part: a part chooses a backend, whose fields are its own."""
    for model in (
        SourceOptions,
        TrainerOptions,
        EvaluatorOptions,
        ExporterOptions,
        GateOptions,
        Spec,
        Model,
        Data,
        Package,
        AdapterOptions,
        Stage,
        Split,
    ):
        for name, info in model.model_fields.items():
            holds_part = Part.__name__ in str(info.annotation) or _holds(info.annotation)
            if name != "kind" and not holds_part:
                yield model, name


def test_no_field_is_forgotten():
    assert set(fields_of_the_core()) == {key for key in {**CASES, **ELSEWHERE} if key != (Options, "kind")}


@pytest.mark.parametrize("field", [key for key in ELSEWHERE if key != (Options, "kind")], ids=str)
def test_the_other_proofs_are_there_and_write_the_field(field):
    model, name = field
    written = model.model_fields[name].alias or name
    proof = (Path(__file__).parents[1] / ELSEWHERE[field]).read_text()
    assert re.search(rf"\b{written}\b", proof)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}.{case[1]}")
def test_another_value_makes_another_output(case, fake_spec, fake_host, tmp_path, monkeypatch):
    monkeypatch.chdir(fake_spec.parent)  # a path in an override is relative to it
    one, other, observe = CASES[case]
    found = []
    for number, override in enumerate((one, other)):
        overrides = [*BESIDES.get(case, ()), override]
        try:
            result = Project(fake_spec, overrides, fake_host).run(tmp_path / str(number))
            found.append(observe(Path(result.summary["run_dir"])))
        except TunewrightError as error:
            found.append(type(error).__name__)
    assert found[0] != found[1]
