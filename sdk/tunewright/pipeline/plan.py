"""A resolved spec becomes a plan: steps with complete keys, known before anything runs, and which of them are hits."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from tunewright.data.rows import realise
from tunewright.digest import digest_json
from tunewright.parts.base import Argument, BadOption, Finding, library_version
from tunewright.parts.model_source import Pin
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.step import Step
from tunewright.pipeline.tasks.evaluate import Evaluate
from tunewright.pipeline.tasks.export import Export
from tunewright.pipeline.tasks.fetch import Fetch
from tunewright.pipeline.tasks.gate import Judge
from tunewright.pipeline.tasks.package import Package
from tunewright.pipeline.tasks.parity import Parity
from tunewright.pipeline.tasks.prepare import Prepare, example_of
from tunewright.pipeline.tasks.report import Report
from tunewright.pipeline.tasks.train import Train
from tunewright.resolve import Resolved
from tunewright.spec.problems import Problem
from tunewright.spec.suggest import did_you_mean
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
                backend: {name: vars(argument) for name, argument in arguments.items()}
                for backend, arguments in self.arguments.items()
            },
            "lock": dict(self.lock),
        }


def make_plan(resolved: Resolved) -> Plan:
    """Plan a resolved spec. Raises `SpecError` for what only the whole data shows: no rows, a value never seen."""
    resolved.refuse(_check_rows(resolved))
    device = resolved.loader.device()  # before any library is asked for its signatures: this one sets it offline
    resolved.refuse(_check_arguments(resolved))
    pin = resolved.source.pin()
    lock = make_lock(resolved, pin)
    arguments = {
        f"{backend.part}/{backend.kind}": found
        for backend in resolved.backends()
        if (found := {**backend.arguments(), **backend.derive(resolved.facts)})
    }
    steps = tuple(_steps(resolved, pin, lock, arguments, device))
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = step.key(keys)
    return Plan(resolved.spec.name, steps, keys, lock, arguments, device, resolved)


def _check_rows(resolved: Resolved) -> Iterator[Problem]:
    for source in (*resolved.train, *resolved.test):
        try:
            for row in realise(source, resolved.spec.seed).rows:
                example_of(resolved.format, row)  # an empty answer is said now, not after a download
        except BadOption as error:
            yield resolved.problem(source, error.finding)


def _check_arguments(resolved: Resolved) -> Iterator[Problem]:
    """Every name in `args:` is one of the library's own signature, and its value of the type that stands there."""
    for backend in resolved.backends():
        given = getattr(backend.options, "args", {})
        if given and backend.accepts:
            module, _, name = backend.accepts.partition(":")
            target = getattr(importlib.import_module(module), name)
            known = inspect.signature(target).parameters
            types = get_type_hints(target)
            for argument, value in given.items():
                field = f"args.{argument}"
                if argument not in known:
                    message = f"`{argument}` is not an argument of {module}'s `{name}`"
                    finding = Finding("unknown-argument", message, field, did_you_mean(argument, known), at_key=True)
                    yield resolved.problem(backend, finding)
                elif why := _mistyped(value, types.get(argument, Any)):
                    yield resolved.problem(backend, Finding("wrong-type", f"`{argument}`: {why}", field))


def _mistyped(value: Any, annotation: Any) -> str:
    """Why a value is not of a library's annotated type; empty where it is, or where that cannot be checked."""
    try:
        TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']}; {name_of(annotation)} is expected"
    except PydanticSchemaGenerationError:
        return ""
    return ""


def name_of(annotation: Any) -> str:
    """A type as a person writes it."""
    if inspect.isclass(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _steps(
    resolved: Resolved, pin: Pin, lock: Mapping[str, Any], arguments: Mapping[str, Mapping[str, Argument]], device: str
) -> Iterator[Step]:
    spec, seed = resolved.spec, resolved.spec.seed
    opener = Opener(resolved.loader, resolved.engine, resolved.quantizer, resolved.adapter, spec.model.dtype)
    max_length = resolved.trainer.options.max_length
    model = {"model": "fetch"}
    yield Step("fetch", Fetch(resolved.source, pin), {})
    prepare = Prepare(resolved.loader, resolved.format, resolved.train, max_length, seed)
    yield Step("prepare", prepare, model)
    if resolved.evaluators:
        yield Step("evaluate-base", _evaluate(resolved, opener), model, device)
    train = Train(resolved.loader, resolved.quantizer, resolved.adapter, resolved.trainer, spec.model.dtype, seed)
    yield Step("train", train, {**model, "rows": "prepare"}, device)
    trained = {**model, "trained": "train"}
    if resolved.evaluators:
        yield Step("evaluate-tuned", _evaluate(resolved, opener), trained, device)
    exports = {f"export-{exporter.name}": exporter for exporter in resolved.exporters}
    for name, exporter in exports.items():
        yield Step(name, Export(exporter, opener), trained)
    form = next(name for name, exporter in exports.items() if exporter.kind == "adapter")
    golden = resolved.test or resolved.train
    parity = Parity(opener, resolved.format, golden, seed, tuple(resolved.host.blocked))
    yield Step("parity", parity, {**trained, **{name: name for name in exports}}, device)
    judged = {"base": "evaluate-base", "tuned": "evaluate-tuned"} if resolved.evaluators else {}
    yield Step("gate", Judge(resolved.evaluators, resolved.gates, seed), judged)
    shown = {**trained, "rows": "prepare", "export": form, "parity": "parity", "gate": "gate", **judged}
    about = _about(resolved, lock, arguments)
    yield Step("report", Report(about, resolved.evaluators), shown)
    packed = {**shown, "report": "report"}
    yield Step("package", Package(about, spec.package, resolved.evaluators, resolved.quantizer), packed)


def _evaluate(resolved: Resolved, opener: Opener) -> Evaluate:
    return Evaluate(opener, resolved.format, resolved.test, resolved.evaluators, resolved.spec.seed)


def _about(
    resolved: Resolved, lock: Mapping[str, Any], arguments: Mapping[str, Mapping[str, Argument]]
) -> dict[str, Any]:
    """What report and package say of the run besides its outputs: plain data."""
    return {
        "name": resolved.spec.name,
        "lock": dict(lock),
        "arguments": {
            key: {name: vars(argument) for name, argument in found.items()} for key, found in arguments.items()
        },
        "kinds": {
            part: getattr(resolved, part).kind for part in ("source", "quantizer", "adapter", "trainer", "format")
        },
        "libraries": libraries(resolved),
        "dtype": resolved.spec.model.dtype,
        "license": resolved.source.license,
    }


def libraries(resolved: Resolved) -> dict[str, str]:
    """Versions of every library that a backend of this spec names."""
    names = {name for backend in resolved.backends() for name in backend.libraries}
    return {name: library_version(name) for name in sorted(names)}


def make_lock(resolved: Resolved, pin: Pin) -> dict[str, Any]:
    """The spec with every default written out and every source pinned: what `spec.lock.yaml` holds."""
    spec = resolved.spec

    def whole(backend: Any) -> dict[str, Any]:
        return dict(backend.options.model_dump(mode="json"))

    sources = {"train": resolved.train, "test": resolved.test}
    return {
        "apiVersion": spec.api_version,
        "name": spec.name,
        "model": {"source": whole(resolved.source), "dtype": spec.model.dtype, "loader": whole(resolved.loader)},
        "quantization": whole(resolved.quantizer),
        "adapter": whole(resolved.adapter),
        "data": {"format": whole(resolved.format), **{k: [whole(s) for s in v] for k, v in sources.items()}},
        "trainer": whole(resolved.trainer),
        "evals": [whole(evaluator) for evaluator in resolved.evaluators],
        "gates": [whole(gate) for gate in resolved.gates],
        "exports": [whole(exporter) for exporter in resolved.exporters],
        "package": spec.package.model_dump(mode="json"),
        "seed": spec.seed,
        "locked": {
            "model": dict(pin.values),
            "data": {k: [source.digest() for source in v] for k, v in sources.items()},
            "plugins": _plugins(resolved),
        },
    }


def _plugins(resolved: Resolved) -> dict[str, str]:
    entries = (resolved.host.table[f"{backend.part}/{backend.kind}"] for backend in resolved.backends())
    return dict(sorted({entry.distribution: entry.version for entry in entries}.items()))
