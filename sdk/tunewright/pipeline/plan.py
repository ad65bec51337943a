"""A resolved spec becomes a plan: steps with complete keys, known before anything runs, and which of them are hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunewright.data.rows import realise
from tunewright.digest import digest_json
from tunewright.parts.base import Argument, BadOption, library_version
from tunewright.parts.data_source import Row
from tunewright.parts.model_source import Pin
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.library import check_arguments, effective, everything
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
from tunewright.resolve import Resolved, once_pinned
from tunewright.resolve.rules import client_rules
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
                f"{backend.part}/{backend.kind}": {name: vars(argument) for name, argument in found.items()}
                for backend in self.resolved.backends()
                if (found := everything(backend, self.resolved.facts))
            },
            "lock": dict(self.lock),
        }


def make_plan(resolved: Resolved) -> Plan:
    """Plan a resolved spec. Raises `SpecError` for what only the whole data shows: no rows, a value never seen."""
    resolved.refuse(_check_rows(resolved))
    device = resolved.loader.device()  # before any library is asked for its signatures: this one sets it offline
    pin = _pin(resolved)
    resolved = once_pinned(resolved)
    facts = resolved.facts
    resolved.refuse(resolved.problem(b, found) for b in resolved.backends() for found in check_arguments(b, facts))
    lock = make_lock(resolved, pin)
    arguments = {
        f"{backend.part}/{backend.kind}": found
        for backend in resolved.backends()
        if (found := effective(backend, facts))
    }
    steps = tuple(_steps(resolved, pin, lock, arguments, device))
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = step.key(keys)
    return Plan(resolved.spec.name, steps, keys, lock, arguments, device, resolved)


def _pin(resolved: Resolved) -> Pin:
    try:
        return resolved.source.pin()
    except BadOption as error:
        raise SpecError([resolved.problem(resolved.source, error.finding)], resolved.document.sources) from error


def _check_rows(resolved: Resolved) -> Iterator[Problem]:
    """Every row becomes an example, and the client's own rules see all that is trained on."""
    found: list[tuple[Row, ...]] = []
    for source in (*resolved.train, *resolved.test):
        found.append(())
        try:
            found[-1] = tuple(realise(source, resolved.spec.seed).rows)
            for row in found[-1]:
                example_of(resolved.format, row)  # an empty answer is said now, not after a download
        except BadOption as error:
            yield resolved.problem(source, error.finding)
    rows = tuple(found[: len(resolved.train)])
    yield from client_rules(resolved, replace(resolved.facts, rows=rows, complete=True))


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
    """Every distribution that took part: by a backend, or by a hook that saw the spec or will hear the run."""
    host = resolved.host
    used = {host.table[f"{backend.part}/{backend.kind}"].plugin for backend in resolved.backends()}
    used |= {name for hook in ("tunewright_check_spec", "tunewright_run_event") for name, _, _ in host.each(hook)}
    return dict(sorted(host.plugins[name] for name in used))
