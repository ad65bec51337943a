"""A resolved spec becomes a plan: steps with complete keys, known before anything runs, and which of them are hits."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple, cast

from tunewright.data.rows import BadSource
from tunewright.digest import digest_json
from tunewright.errors import TunewrightWarning
from tunewright.parts import Backend, Cap, DataSource, Evaluator, Quantizer
from tunewright.parts.base import Argument, BadOption, library_version
from tunewright.parts.data_source import Row
from tunewright.parts.model_source import Pin
from tunewright.pipeline.fit import misfits
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.library import check_arguments, effective, everything
from tunewright.pipeline.parent import parent_of
from tunewright.pipeline.repeats import Repeat, repeats
from tunewright.pipeline.rows import AllRows, ClaimRows, TrainingRows, example_of, read_all, rows_of
from tunewright.pipeline.step import Step
from tunewright.pipeline.tasks.evaluate import Evaluate
from tunewright.pipeline.tasks.export import Export
from tunewright.pipeline.tasks.fetch import Fetch
from tunewright.pipeline.tasks.gate import Judge
from tunewright.pipeline.tasks.merge import Merge
from tunewright.pipeline.tasks.package import Package
from tunewright.pipeline.tasks.parity import Parity
from tunewright.pipeline.tasks.prepare import Prepare
from tunewright.pipeline.tasks.report import Report
from tunewright.pipeline.tasks.train import Train
from tunewright.resolve import Resolved, bare, once_pinned
from tunewright.resolve.resolved import Claims, Training
from tunewright.resolve.rules import client_rules
from tunewright.resolve.rules import learnt as sources_learnt
from tunewright.spec.model import Split, Stage
from tunewright.spec.problems import Problem, SpecError
from tunewright.store.publish import Artifact, Store


@dataclass(frozen=True)
class Plan:
    """Everything decided: the steps in their order, their keys, the lock and every effective argument."""

    name: str
    steps: tuple[Step, ...]
    keys: Mapping[str, str]
    lock: Mapping[str, Any]
    arguments: Mapping[str, Mapping[str, Argument]]
    device: str
    resolved: Resolved
    repeats: tuple[Repeat, ...] = ()
    """Rows that judge the model and were shown to it."""

    @property
    def key(self) -> str:
        """Digest of all steps' keys: two plans with equal keys do the same."""
        return digest_json(dict(self.keys))

    def hits(self, store: Store) -> dict[str, Artifact]:
        """The steps whose output is there already."""
        found = {}
        for step in self.steps:
            artifact = store.find(step.name, self.keys[step.name])
            if artifact is not None and step.task.present(artifact):
                found[step.name] = artifact
        return found

    def to_json(self, store: Store) -> dict[str, Any]:
        """The plan as `plan --json` prints it."""
        hits = self.hits(store)
        return {
            "name": self.name,
            "key": self.key,
            "device": self.device,
            "steps": [
                {"name": step.name, "key": self.keys[step.name], "cached": step.name in hits} for step in self.steps
            ],
            "arguments": {
                called(self.resolved, backend): {name: vars(argument) for name, argument in found.items()}
                for backend in self.resolved.backends()
                if (found := everything(backend, self.resolved.facts_for(backend)))
            },
            "repeats": [one.to_json() for one in self.repeats],
            "lock": dict(self.lock),
        }


def make_plan(resolved: Resolved) -> Plan:
    """Plan a resolved spec. Raises `SpecError` for what only the whole data shows: no rows, a value never seen.

    Warns of rows that judge the model and were shown to it.
    """
    problems, repeated = _check_rows(resolved)
    resolved.refuse(problems)
    for one in repeated:
        warnings.warn(TunewrightWarning(str(one)), stacklevel=2)
    device = resolved.loader.device()  # before any library is asked for its signatures: this one sets it offline
    pin = _pin(resolved)
    resolved = once_pinned(resolved)
    resolved.refuse(
        resolved.problem(backend, found)
        for backend in resolved.backends()
        for found in check_arguments(backend, resolved.facts_for(backend))
    )
    resolved.refuse(misfits(resolved, resolved.facts.model_config))
    lock = make_lock(resolved, pin)
    arguments = {
        called(resolved, backend): found
        for backend in resolved.backends()
        if (found := effective(backend, resolved.facts_for(backend)))
    }
    about = _about(resolved, lock, arguments, repeated)
    steps = tuple(_steps(resolved, pin, about, device))
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = step.key(keys)
    return Plan(resolved.spec.name, steps, keys, lock, arguments, device, resolved, repeated)


def _pin(resolved: Resolved) -> Pin:
    try:
        return resolved.source.pin()
    except BadOption as error:
        raise SpecError([resolved.problem(resolved.source, error.finding)], resolved.document.sources) from error


def _check_rows(resolved: Resolved) -> tuple[list[Problem], tuple[Repeat, ...]]:
    """Every row becomes an example, and the client's own rules see all that is trained on.

    Gives what is wrong, and the rows that judge and were shown to the model, which is only told.
    """
    learnt: dict[DataSource, list[Row]] = {}
    problems, found = [], list[Repeat]()
    try:
        rows = read_all(resolved)
        _make_examples(resolved, rows)
        for training, made in rows.learnt:
            for source, one in zip(training.train, made.train, strict=True):
                learnt.setdefault(source, one.rows)
        found = repeats(rows)
        problems += [resolved.problem(one.source, one.finding()) for one in found if one.refused]
    except BadSource as error:
        problems.append(resolved.problem(error.source, error.finding))
    every = tuple(tuple(learnt.get(source, ())) for source in sources_learnt(resolved))
    problems += client_rules(resolved, replace(resolved.facts, rows=every, complete=True))
    return problems, tuple(one for one in found if not one.refused)


def _make_examples(resolved: Resolved, found: AllRows) -> None:
    """An empty answer is said now, not after a download."""
    for claimed in found.claimed:
        alike = [one.format for one in resolved.asked.values() if one.sources == claimed.claims.sources]
        for form in dict.fromkeys([claimed.claims.format, *alike]):
            for row in rows_of(claimed.rows):
                example_of(form, row)
    for training, rows in found.learnt:
        for row in rows_of([*rows.train, *rows.validation]):
            example_of(training.format, row)


class Made(NamedTuple):
    """Where the steps after the trainings find what they need: the base that is served, what was trained on it."""

    model: str
    trained: str
    rows: str


def _steps(resolved: Resolved, pin: Pin, about: Mapping[str, Any], device: str) -> Iterator[Step]:
    spec, seed = resolved.spec, resolved.spec.seed
    opener = Opener(resolved.loader, resolved.engine, resolved.quantizer, resolved.adapter, spec.model.dtype)
    yield Step("fetch", Fetch(resolved.source, pin), {})
    for training in resolved.trainings:  # all rows are proven before the first training: a merge keeps the tokenizer
        options, rows = training.trainer.options, TrainingRows(training, seed)
        prepare = Prepare(resolved.loader, rows, options.max_length, training.trainer.packs)
        yield Step(training.suffix("prepare"), prepare, {"model": "fetch"})
    if resolved.evaluators:
        yield Step("evaluate-base", _evaluate(resolved, opener), {"model": "fetch"}, device)
    made = Made("fetch", "", "")
    for training in resolved.trainings:
        made = yield from _training(resolved, training, made, device)
    model = {"model": made.model}
    trained = {**model, "trained": made.trained}
    if resolved.evaluators:
        yield Step("evaluate-tuned", _evaluate(resolved, opener), trained, device)
    exports = {f"export-{exporter.name}": exporter for exporter in resolved.exporters}
    for name, exporter in exports.items():
        yield Step(name, Export(exporter, opener), trained)
    form = next(name for name, exporter in exports.items() if exporter.kind == "adapter")
    parity = Parity(opener, ClaimRows(_golden(resolved), seed), seed, tuple(resolved.host.blocked))
    yield Step("parity", parity, {**trained, **{name: name for name in exports}}, device)
    judged = {"base": "evaluate-base", "tuned": "evaluate-tuned"} if resolved.evaluators else {}
    yield Step("gate", Judge(resolved.evaluators, resolved.gates, seed), judged)
    shown = {**trained, "rows": made.rows, "export": form, "parity": "parity", "gate": "gate", **judged}
    yield Step("report", Report(about, resolved.evaluators), {**shown, **_stages(resolved)})
    packed = {**shown, "report": "report"}
    yield Step("package", Package(about, spec.package, resolved.evaluators, resolved.quantizer), packed)


def _training(resolved: Resolved, training: Training, before: Made, device: str) -> Generator[Step, None, Made]:
    """The steps of one training: what it trains on comes from the stage before."""
    spec, trainer, adapter = resolved.spec, training.trainer, resolved.adapter
    model, parent, given = before.model, {}, None
    if before.trained and training.adapter == "merge":
        whole_weights = Cap.FULLY_TRAINABLE in resolved.quantizer.offers()
        plain = resolved.quantizer if whole_weights else cast(Quantizer, bare(resolved.host, "quantizer", "none"))
        merge = Merge(resolved.loader, plain, adapter, spec.model.dtype, before.trained.removeprefix("train-"))
        model = training.suffix("merge")
        yield Step(model, merge, {"model": before.model, "trained": before.trained})
    elif before.trained:
        parent = {"parent": before.trained}
    else:
        given = parent_of(adapter)
    derived = trainer.derive(resolved.facts_for(trainer))
    train = Train(resolved.loader, resolved.quantizer, adapter, trainer, spec.model.dtype, spec.seed, derived, given)
    made = Made(model, training.suffix("train"), training.suffix("prepare"))
    yield Step(made.trained, train, {"model": model, "rows": made.rows, **parent}, device)
    return made


def _stages(resolved: Resolved) -> dict[str, str]:
    """The ports of every stage: its prepare and its train."""
    named = [training for training in resolved.trainings if training.name]
    return {training.suffix(step): training.suffix(step) for training in named for step in ("prepare", "train")}


def _golden(resolved: Resolved) -> Claims:
    """Rows to ask every form with: the test rows, or the last training's where there are none."""
    last = resolved.trainings[-1]
    return resolved.test if resolved.test.sources else Claims(last.format, last.train, None, last.read)


def _evaluate(resolved: Resolved, opener: Opener) -> Evaluate:
    seed = resolved.spec.seed
    return Evaluate(opener, {e: ClaimRows(resolved.asked[e.name], seed) for e in resolved.evaluators})


def _about(
    resolved: Resolved,
    lock: Mapping[str, Any],
    arguments: Mapping[str, Mapping[str, Argument]],
    repeated: Sequence[Repeat],
) -> dict[str, Any]:
    """What report and package say of the run besides its outputs: plain data."""
    return {
        "name": resolved.spec.name,
        "lock": dict(lock),
        "arguments": {
            key: {name: vars(argument) for name, argument in found.items()} for key, found in arguments.items()
        },
        "kinds": {
            **{part: getattr(resolved, part).kind for part in ("source", "quantizer", "adapter", "format")},
            "trainer": resolved.trainings[-1].trainer.kind,
        },
        "stages": [training.name for training in resolved.trainings if training.name],
        "libraries": libraries(resolved),
        "dtype": resolved.spec.model.dtype,
        "license": resolved.source.license,
        "repeats": [one.to_json() for one in repeated],
    }


def libraries(resolved: Resolved) -> dict[str, str]:
    """Versions of every library that a backend of this spec names."""
    names = {name for backend in resolved.backends() for name in backend.libraries}
    return {name: library_version(name) for name in sorted(names)}


def called(resolved: Resolved, backend: Backend) -> str:
    """What a plan calls a backend: `trainer/sft`, and `dpo: trainer/dpo` for a stage's."""
    key = f"{backend.part}/{backend.kind}"
    stage = next((training.name for training in resolved.trainings if training.trainer is backend), "")
    return f"{stage}: {key}" if stage else key


def make_lock(resolved: Resolved, pin: Pin) -> dict[str, Any]:
    """The spec with every default written out and every source pinned: what `spec.lock.yaml` holds."""
    spec = resolved.spec
    trained: dict[str, Any] = {"trainer": None if spec.trainer is None else whole(resolved.trainings[0].trainer)}
    if spec.stages:
        trained = {
            "stages": [_locked_stage(stage, t) for stage, t in zip(spec.stages, resolved.trainings, strict=True)]
        }
    data = next(
        (
            training
            for training, stage in zip_longest(resolved.trainings, spec.stages)
            if stage is None or stage.data is None or not stage.data.train
        ),
        None,
    )
    return {
        "apiVersion": spec.api_version,
        "name": spec.name,
        "model": {"source": whole(resolved.source), "dtype": spec.model.dtype, "loader": whole(resolved.loader)},
        "quantization": whole(resolved.quantizer),
        "adapter": whole(resolved.adapter),
        "data": {
            "format": whole(resolved.format),
            "train": [] if data is None else [whole(source) for source in data.train],
            **({"validation": _held(data.validation)} if data is not None and data.validation else {}),
            "test": _held(resolved.test.split or resolved.test.sources),
        },
        **trained,
        "evals": [_locked_evaluator(resolved, evaluator) for evaluator in resolved.evaluators],
        "gates": [whole(gate) for gate in resolved.gates],
        "exports": [whole(exporter) for exporter in resolved.exporters],
        "package": spec.package.model_dump(mode="json"),
        "seed": spec.seed,
        "locked": {
            "model": dict(pin.values),
            "data": {resolved.where(source): source.digest() for source in resolved.data_sources()},
            "plugins": _plugins(resolved),
        },
    }


def whole(backend: Backend) -> dict[str, Any]:
    """Every option of a backend, as written out."""
    return dict(backend.options.model_dump(mode="json"))


def _held(held: Split | tuple[DataSource, ...]) -> Any:
    return held.model_dump(mode="json") if isinstance(held, Split) else [whole(source) for source in held]


def _locked_stage(stage: Stage, training: Training) -> dict[str, Any]:
    locked: dict[str, Any] = {"name": stage.name, "trainer": whole(training.trainer), "adapter": stage.adapter}
    if stage.data is not None:
        locked["data"] = {"format": whole(training.format)}
        if stage.data.train:
            locked["data"]["train"] = [whole(source) for source in training.train]
        if stage.data.validation:
            locked["data"]["validation"] = _held(training.validation)
    return locked


def _locked_evaluator(resolved: Resolved, evaluator: Evaluator) -> dict[str, Any]:
    claims = resolved.asked[evaluator.name]
    own = whole(evaluator)
    if own.get("format") is not None:
        own["format"] = whole(claims.format)
    if own.get("test"):
        own["test"] = [whole(source) for source in claims.sources]
    return own


def _plugins(resolved: Resolved) -> dict[str, str]:
    """Every distribution that took part: by a backend, or by a hook that saw the spec or will hear the run."""
    host = resolved.host
    used = {host.table[f"{backend.part}/{backend.kind}"].plugin for backend in resolved.backends()}
    used |= {name for hook in ("tunewright_check_spec", "tunewright_run_event") for name, _, _ in host.each(hook)}
    return dict(sorted(host.plugins[name] for name in used))
