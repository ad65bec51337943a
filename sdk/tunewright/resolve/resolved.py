"""A spec whose every part is a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tunewright.host import Host
from tunewright.parts import (
    AdapterMethod,
    Backend,
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
    Trainer,
)
from tunewright.spec.document import Document, Key
from tunewright.spec.model import Spec, part_key
from tunewright.spec.problems import Problem, SpecError


class Resolved(NamedTuple):
    """The backends by their place. `keys` says where each stands in the document."""

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
    target: Exporter | None
    """What the package is made for, checked but not exported by itself."""
    keys: Mapping[int, Key]
    facts: Facts = Facts()

    def backends(self) -> Iterator[Backend]:
        """Every backend that the spec names, and the engine that its loader names."""
        yield from (self.source, self.loader, self.engine, self.quantizer, self.adapter, self.format)
        yield from (*self.train, *self.test, self.trainer, *self.evaluators, *self.gates, *self.exporters)
        if self.target is not None:
            yield self.target

    def key(self, backend: Backend, field: str) -> Key:
        """The way to a backend's field in the document."""
        return part_key(self.document, self.keys.get(id(backend), ()), field)

    def problem(self, backend: Backend, finding: Finding) -> Problem:
        """A backend's finding at the place of its field."""
        place = self.document.at(self.key(backend, finding.field), prefer_key=finding.at_key)
        return Problem(finding.code, finding.message, place, finding.suggestion)

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raise `SpecError` if there is any problem."""
        found = list(problems)
        if found:
            raise SpecError(found, self.document.sources)
