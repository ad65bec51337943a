"""A spec and the installed plugins become backends with their options: every problem at once, nothing heavy imported.

This is what `validate` runs. Rules between parts are capabilities that one part offers and another needs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from tunewright.errors import BadInput, EnvironmentFault
from tunewright.host import Host
from tunewright.parts import (
    AdapterMethod,
    Backend,
    Cap,
    DataSource,
    Engine,
    Evaluator,
    Exporter,
    Facts,
    Finding,
    Gate,
    Loader,
    ModelSource,
    PromptFormat,
    Quantizer,
    SpecPath,
    To,
    Trainer,
)
from tunewright.parts.base import BadOption, Head
from tunewright.spec.document import Document, Key
from tunewright.spec.load import load
from tunewright.spec.model import Place, Spec, part_key, places
from tunewright.spec.problems import Problem, SpecError
from tunewright.spec.suggest import did_you_mean
from tunewright.spec.validate import check_spec, problems_of


@dataclass(frozen=True)
class Resolved:
    """A spec whose every part is a backend. `keys` says where each backend stands in the document."""

    spec: Spec
    document: Document
    host: Host
    source: ModelSource
    loader: Loader
    engine: Engine
    quantizer: Quantizer
    adapter: AdapterMethod
    format: PromptFormat
    train: tuple[DataSource, ...]
    test: tuple[DataSource, ...]
    trainer: Trainer
    evaluators: tuple[Evaluator, ...]
    gates: tuple[Gate, ...]
    exporters: tuple[Exporter, ...]
    keys: Mapping[int, Key]
    facts: Facts = field(default_factory=Facts)

    def backends(self) -> Iterator[Backend]:
        """Every backend that the spec names, and the engine that its loader names."""
        yield from (self.source, self.loader, self.engine, self.quantizer, self.adapter, self.format)
        yield from (*self.train, *self.test, self.trainer, *self.evaluators, *self.gates, *self.exporters)

    def problem(self, backend: Backend, finding: Finding) -> Problem:
        """A backend's finding at the place of its field."""
        key = part_key(self.document, self.keys.get(id(backend), ()), finding.field)
        return Problem(
            finding.code, finding.message, self.document.at(key, prefer_key=finding.at_key), finding.suggestion
        )

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raise `SpecError` if there is any problem."""
        found = list(problems)
        if found:
            raise SpecError(found, self.document.sources)


def resolve(path: Path, host: Host, overrides: Iterable[str] = ()) -> Resolved:
    """Load, check and resolve a spec. Raises `SpecError` with every problem that shows before anything is fetched."""
    document = load(path, overrides)
    spec, problems = check_spec(document)
    found: dict[Key, Backend] = {}
    for place in places(document):
        try:
            found[place.key] = _instance(place, document, host)
        except SpecError as error:
            problems += error.problems
        except BadInput as error:
            problems.append(Problem("bad-plugin", error.message, document.at(place.key), error.fix))
    if spec is None or problems:
        raise SpecError(problems, document.sources)
    resolved = _assemble(spec, document, host, found)
    heads, problems = _heads(resolved)
    resolved = replace(resolved, facts=_facts(resolved, heads))
    resolved.refuse((*problems, *_cross_check(resolved, heads)))
    return resolved


def _instance(place: Place, document: Document, host: Host) -> Backend:
    kind_key = part_key(document, place.key, "kind")
    if f"{place.contract}/{place.part.kind}" not in host.table:
        raise SpecError([_unknown_kind(place, document, host, kind_key)], document.sources)
    backend = host.backend(place.contract, place.part.kind)
    return backend(_options(backend, place, document))


def _unknown_kind(place: Place, document: Document, host: Host, key: Key) -> Problem:
    kinds = host.kinds(place.contract)
    broken = [fault for fault in host.faults if place.part.kind in fault.why or place.part.kind == fault.plugin]
    message = f"`{place.part.kind}` is not an installed {place.contract.replace('_', ' ')}"
    if broken:
        message += f" (plugin `{broken[0].plugin}` of {broken[0].distribution} could not be loaded: {broken[0].why})"
    return Problem("unknown-kind", message, document.at(key), did_you_mean(place.part.kind, kinds))


def _options(backend: type[Backend], place: Place, document: Document) -> Any:
    model = backend.Options
    folders = {
        name: document.folder((*place.key, name))
        for name, info in model.model_fields.items()
        if info.annotation is SpecPath or SpecPath in getattr(info.annotation, "__args__", ())
    }
    try:
        return model.model_validate(dict(place.part.raw), context={"folders": folders})
    except ValidationError as error:
        owner = f"{place.contract.replace('_', ' ')} `{place.part.kind}`"
        raise SpecError(problems_of(error, model, document, place.key, owner), document.sources) from error


def _assemble(spec: Spec, document: Document, host: Host, found: Mapping[Key, Backend]) -> Resolved:
    def one(*key: str) -> Any:
        return found[key]

    def several(*prefix: str) -> tuple[Any, ...]:
        return tuple(backend for key, backend in found.items() if key[:-1] == prefix)

    loader = one("model", "loader")
    exporters = several("exports")
    if not any(exporter.kind == "adapter" for exporter in exporters):
        # the trained form is always exported
        exporters = (cast(Exporter, bare(host, "exporter", "adapter")), *exporters)
    return Resolved(
        spec=spec,
        document=document,
        host=host,
        source=one("model", "source"),
        loader=loader,
        engine=cast(Engine, bare(host, "engine", loader.engine)),
        quantizer=one("quantization"),
        adapter=one("adapter"),
        format=one("data", "format"),
        train=several("data", "train"),
        test=several("data", "test"),
        trainer=one("trainer"),
        evaluators=several("evals"),
        gates=several("gates"),
        exporters=exporters,
        keys={id(backend): key for key, backend in found.items()},
    )


def bare(host: Host, part: str, kind: str) -> Backend:
    """A backend with every option at its default."""
    if f"{part}/{kind}" not in host.table:
        raise EnvironmentFault(f"no installed plugin brings `{part}/{kind}`", fix="see: tunewright plugins list")
    return cast(Backend, host.make(part, {"kind": kind}))


def _heads(resolved: Resolved) -> tuple[dict[DataSource, Head], list[Problem]]:
    heads, problems = {}, []
    for source in (*resolved.train, *resolved.test):
        try:
            heads[source] = source.head()
        except BadOption as error:
            problems.append(resolved.problem(source, error.finding))
    return heads, problems


def _cross_check(resolved: Resolved, heads: Mapping[DataSource, Head]) -> Iterator[Problem]:
    facts = resolved.facts
    if resolved.evaluators and not resolved.test:
        message = "the evaluations have no rows to ask: `data.test` is empty"
        yield Problem("no-test-data", message, resolved.document.at(("evals",)), "add `data.test:`")
    for backend in resolved.backends():
        yield from (resolved.problem(backend, finding) for finding in backend.check(facts))
        yield from _unmet(resolved, backend, facts)
        yield from (resolved.problem(backend, finding) for finding in _taken(backend))
    yield from _columns(resolved, heads)
    yield from _wheres(resolved, heads)
    yield from _metrics(resolved, facts)
    yield from _names(resolved)
    yield from _client_rules(resolved, facts)


def _facts(resolved: Resolved, heads: Mapping[DataSource, Head]) -> Facts:
    made = {f"{evaluator.name}.{metric}" for evaluator in resolved.evaluators for metric in evaluator.summaries()}
    config = None
    with contextlib.suppress(BadOption):  # its own check says so
        config = resolved.source.config()
    return Facts(
        model_config=config,
        train=tuple(heads[source] for source in resolved.train if source in heads),
        test=tuple(heads[source] for source in resolved.test if source in heads),
        metrics=frozenset(made),
        offers={backend.part: backend.offers() for backend in resolved.backends()},
    )


def _unmet(resolved: Resolved, backend: Backend, facts: Facts) -> Iterator[Problem]:
    by_part = {other.part: other for other in resolved.backends()}
    for need in backend.needs():
        if need.cap not in facts.offers.get(need.part, frozenset[Cap]()):
            other = by_part[need.part]
            message = f"{backend.part} `{backend.kind}` needs a {need.part} that is {need.cap}; `{other.kind}` is not"
            yield resolved.problem(backend, Finding(need.code, message, suggestion=need.why))


def _taken(backend: Backend) -> Iterator[Finding]:
    """`args:` may not repeat an option, nor what we set ourselves."""
    fields = {mark.argument: name for name, info in backend.Options.model_fields.items() for mark in info.metadata
              if isinstance(mark, To)}  # fmt: skip
    for name, value in getattr(backend.options, "args", {}).items():
        if name in fields:
            message = f"`{name}` is the option `{fields[name]}`"
            yield Finding("argument-taken", message, f"args.{name}", f"set `{fields[name]}` instead", at_key=True)
        elif name in backend.fixed:
            message = f"`{name}` is always `{backend.fixed[name]}` here: the run depends on it"
            yield Finding("argument-taken", message, f"args.{name}", "remove it", at_key=True)
        elif isinstance(value, float) and not math.isfinite(value):
            yield Finding("bad-value", f"`{name}` is {value}, which is no number to work with", f"args.{name}")


def _columns(resolved: Resolved, heads: Mapping[DataSource, Head]) -> Iterator[Problem]:
    for source, head in heads.items():
        for column, option in sorted(resolved.format.columns().items()):
            if column not in head.columns:
                message = f"`{source.name}` has no column `{column}`"
                finding = Finding("missing-column", message, option, did_you_mean(column, head.columns))
                yield resolved.problem(resolved.format, finding)


def _wheres(resolved: Resolved, heads: Mapping[DataSource, Head]) -> Iterator[Problem]:
    for source, head in heads.items():
        for column in getattr(source.options, "where", {}):
            if column not in head.columns:
                message = f"`{source.name}` has no column `{column}`"
                finding = Finding(
                    "missing-column", message, f"where.{column}", did_you_mean(column, head.columns), at_key=True
                )
                yield resolved.problem(source, finding)


def _metrics(resolved: Resolved, facts: Facts) -> Iterator[Problem]:
    for gate in resolved.gates:
        for metric in sorted(gate.metrics() - facts.metrics):
            finding = Finding(
                "unknown-metric", f"no evaluation makes `{metric}`", "metric", did_you_mean(metric, facts.metrics)
            )
            yield resolved.problem(gate, finding)


def _names(resolved: Resolved) -> Iterator[Problem]:
    for group in (resolved.evaluators, resolved.exporters):
        seen: set[str] = set()
        for backend in cast("tuple[Evaluator | Exporter, ...]", group):
            if backend.name in seen:
                message = f"two {backend.part}s are called `{backend.name}`"
                yield resolved.problem(backend, Finding("duplicate-name", message, suggestion="give one a `name:`"))
            seen.add(backend.name)


def _client_rules(resolved: Resolved, facts: Facts) -> Iterator[Problem]:
    for findings in resolved.host.manager.hook.tunewright_check_spec(spec=resolved.spec, facts=facts):
        for finding in findings or ():
            key: Key = tuple(finding.field.split("."))
            yield Problem(finding.code, finding.message, resolved.document.at(key), finding.suggestion)


__all__ = ["Resolved", "bare", "resolve"]
