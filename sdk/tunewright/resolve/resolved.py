"""A spec whose every part is a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, cast

from tunewright.errors import EnvironmentFault
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
    Tracker,
    Trainer,
)
from tunewright.parts.base import Head
from tunewright.spec.document import Document, Key
from tunewright.spec.model import Spec, Split, part_key
from tunewright.spec.problems import Problem, SpecError


class Training(NamedTuple):
    """One training: a stage, or the only one, whose name is empty."""

    name: str
    trainer: Trainer
    format: PromptFormat
    train: tuple[DataSource, ...]
    validation: tuple[DataSource, ...] | Split
    test: Split | None
    """The rows that `data.test` takes out of `train` before anything is learnt of them."""
    adapter: Literal["continue", "merge"]
    parted_by: tuple[PromptFormat, ...]
    """The formats of all trainings that learn `train`, if a split parts it, else its own alone: rows are one that any
    of these reads alike. Every training and every claim sees such a split alike, whatever an evaluation reads."""

    def sources(self) -> tuple[DataSource, ...]:
        """Every source that it reads."""
        return self.train if isinstance(self.validation, Split) else (*self.train, *self.validation)

    def suffix(self, step: str) -> str:
        """What one of its steps is called: `train`, or `train-<stage>`."""
        return f"{step}-{self.name}" if self.name else step


class Claims(NamedTuple):
    """Rows that claims are made on: of sources of their own, or split off the training rows."""

    format: PromptFormat
    sources: tuple[DataSource, ...]
    split: Split | None
    parted_by: tuple[PromptFormat, ...]
    """As `Training.parted_by`, of the trainings that the split's rows are taken out of."""


class Shots(NamedTuple):
    """The training whose rows are examples before questions, and the format that makes examples of them."""

    training: Training
    format: PromptFormat


class Baseline(NamedTuple):
    """What the tuned model is compared with besides the base. `place` is its number in the spec's list."""

    name: str
    few_shot: int
    """Training rows that stand before each question; 0 for none."""
    engine: Engine | None
    """Who answers in place of the base."""
    asked: tuple[Evaluator, ...]
    """The evaluations that it can answer."""
    unanswered: Mapping[str, str]
    """Why not, of each of the others, by its name."""
    place: int


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
    trainings: tuple[Training, ...]
    test: Claims
    evaluators: tuple[Evaluator, ...]
    asked: Mapping[str, Claims]
    """The rows of each evaluator, by its name: none, where it brings questions of its own."""
    asked_by: Mapping[str, Engine]
    """The engine that each evaluator asks with, by the evaluator's name."""
    baselines: tuple[Baseline, ...]
    trackers: tuple[Tracker, ...]
    gates: tuple[Gate, ...]
    exporters: tuple[Exporter, ...]
    opened_by: Mapping[str, Engine]
    """The engine that opens what each exporter writes, by the exporter's name."""
    target: Exporter | None
    """What the package is made for, checked but not exported by itself."""
    keys: Mapping[int, Key]
    facts: Facts = Facts()
    heads: Mapping[DataSource, Head] = {}

    def backends(self) -> Iterator[Backend]:
        """Every backend that the spec names, and the engines that its loader and its exporters name, each once."""
        parts: list[Backend] = [self.source, self.loader, self.engine, self.quantizer, self.adapter]
        for training in self.trainings:
            parts += [training.format, *training.sources(), training.trainer]
        for claims in (self.test, *self.asked.values()):
            parts += [claims.format, *claims.sources]
        parts += [*self.evaluators, *self.asked_by.values(), *self.gates]
        parts += [baseline.engine for baseline in self.baselines if baseline.engine is not None]
        parts += [*self.exporters, *self.opened_by.values(), *self.trackers]
        yield from {id(part): part for part in [*parts, self.target] if part is not None}.values()

    def data_sources(self) -> tuple[DataSource, ...]:
        """Every source of rows, each once."""
        return tuple(part for part in self.backends() if isinstance(part, DataSource))

    def met_by(self, backend: Backend, part: str) -> Backend:
        """The backend of another part that one works with: an evaluator asks with an engine of its own, and an export
        for a client that reads the base's files alone is put on these."""
        if part == Engine.part and isinstance(backend, Evaluator):
            return self.asked_by[backend.name]
        if part == Quantizer.part and isinstance(backend, Exporter) and backend.on_stored:
            return self.plain()
        return next(other for other in self.backends() if other.part == part)

    def facts_for(self, backend: Backend) -> Facts:
        """What is known, as one backend sees it: a trainer sees the rows of its own training."""
        for training in self.trainings:
            if training.trainer is backend:
                heads = tuple(self.heads.get(source, Head(())) for source in training.train)
                return replace(self.facts, train=heads, validation=bool(training.validation))
        return self.facts

    def plain(self) -> Quantizer:
        """The quantizer by which a base is opened as it lies in its files, and a merged model as it was written: the
        spec's own, or where that one packs what it loads, one that leaves weights as they are."""
        if self.quantizer.as_stored():
            return self.quantizer
        return cast(Quantizer, bare(self.host, "quantizer", "none"))

    def shown_before(self, claims: Claims) -> Shots | None:
        """Whose rows stand as examples before such questions; None where no training makes rows of their kind.

        The last training whose rows the questions' own format reads; where it reads none, the last by its own format.
        """
        alike = [one for one in reversed(self.trainings) if one.format.makes == claims.format.makes]
        wanted = claims.format.columns().keys()
        for training in alike:
            if all(wanted <= set(self.heads.get(source, Head(())).columns) for source in training.train):
                return Shots(training, claims.format)
        return Shots(alike[0], alike[0].format) if alike else None

    def where(self, backend: Backend) -> str:
        """A backend's place in the spec, as a person writes it: `data.train.0`."""
        return ".".join(map(str, self.keys.get(id(backend), ())))

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


def bare(host: Host, part: str, kind: str) -> Backend:
    """A backend with every option at its default."""
    if f"{part}/{kind}" not in host.table:
        raise EnvironmentFault(f"no installed plugin brings `{part}/{kind}`", fix="see: tunewright plugins list")
    return cast(Backend, host.make(part, {"kind": kind}))
