"""A resolved spec becomes a plan: steps with complete keys, known before anything runs, and which of them are hits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunewright.data.rows import BadSource
from tunewright.digest import digest_json
from tunewright.errors import TunewrightWarning
from tunewright.parts import Backend, DataSource
from tunewright.parts.base import Argument, BadOption, library_version
from tunewright.parts.data_source import Row
from tunewright.parts.model_source import Pin
from tunewright.pipeline.apart import paths
from tunewright.pipeline.fit import misfits
from tunewright.pipeline.forms import refuse_lacking
from tunewright.pipeline.library import check_arguments, effective, everything
from tunewright.pipeline.locked import make_lock
from tunewright.pipeline.measured import bars
from tunewright.pipeline.meter import free_memory
from tunewright.pipeline.planner import Foreseen, Lengths, foresee, guess, to_json
from tunewright.pipeline.repeats import Repeat, repeats
from tunewright.pipeline.rows import AllRows, example_of, once_each, read_all, rows_of
from tunewright.pipeline.shots import fewer, too_few
from tunewright.pipeline.since import said
from tunewright.pipeline.step import Step
from tunewright.pipeline.steps import steps_of
from tunewright.pipeline.tasks.prepare import FACTS
from tunewright.pipeline.tasks.train import Train
from tunewright.pipeline.variants import refuse_unknown, searched
from tunewright.pipeline.visible import Shown, shown_by
from tunewright.resolve import Resolved, once_pinned
from tunewright.resolve.rules import client_rules
from tunewright.resolve.rules import learnt as sources_learnt
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
    visible: Mapping[str, Shown] = field(default_factory=dict)
    """The smallest effect that each evaluation can show, by its name."""
    guessed: Mapping[str, Lengths] = field(default_factory=dict)
    """Of each training, by its name, how long its rows are as far as their texts tell."""

    @property
    def key(self) -> str:
        """Digest of all steps' keys: two plans with equal keys do the same."""
        return digest_json(dict(self.keys))

    def about(self, step: Step) -> dict[str, Any]:
        """What stands behind a step's key; of a training, also `behind` each of its inputs, so that a person is told
        which file or option has changed."""
        about = step.about(self.keys)
        if not isinstance(step.task, Train):
            return about
        read = {one.name: one.about(self.keys) for one in self.steps if one.name in step.inputs.values()}
        behind = {port: {what: value for what, value in read[name].items() if what != "inputs"}
                  for port, name in step.inputs.items()}  # fmt: skip
        return {**about, "behind": behind}

    def hits(self, store: Store) -> dict[str, Artifact]:
        """The steps whose output is there already."""
        found = {}
        for step in self.steps:
            artifact = store.find(step.name, self.keys[step.name])
            if artifact is not None and step.task.present(artifact):
                found[step.name] = artifact
        return found

    def foresee(self, done: Mapping[str, Artifact], only: str = "") -> list[Foreseen]:
        """What each step that loads a model will hold, or the step `only`, given the outputs that are there."""
        return foresee(self.resolved, self.steps, self.device, self.guessed, done, only)

    def _prefixes(self, hits: Mapping[str, Artifact]) -> Iterator[tuple[str, dict[str, Any]]]:
        """By prepare step, what computing shared beginnings once saves the training of its rows, where that is done."""
        for training in self.resolved.trainings:
            step, trainer = training.suffix("prepare"), training.trainer
            option = trainer.shares(self.resolved.facts_for(trainer))
            if option is not None and step in hits:
                yield step, {**hits[step].json(FACTS)["prefixes"], "option": option}

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
            "asked_by": {name: engine.settings() for name, engine in self.resolved.asked_by.items()},
            "unanswered": {one.name: dict(one.unanswered) for one in self.resolved.baselines if one.unanswered},
            "repeats": [one.to_json() for one in self.repeats],
            "prefixes": dict(self._prefixes(hits)),
            "smallest_visible_effect": {name: one.to_json() for name, one in self.visible.items()},
            "forecast": to_json(self.foresee(hits), bars(store), free_memory(self.device)),
            "libraries": libraries(self.resolved),
            "versions": {evaluator.name: evaluator.versions() for evaluator in self.resolved.evaluators},
            "paths": {evaluator.name: paths(evaluator.options) for evaluator in self.resolved.evaluators},
            "said": said(self.resolved.document.data),
            "written": written(self.resolved.document.data),
            "lock": dict(self.lock),
        }


def make_plan(resolved: Resolved, search: Sequence[str] = ()) -> Plan:
    """Plan a resolved spec. Raises `SpecError` for what only the whole data shows: no rows, a value never seen.

    `search` names exports whose variants are tried where they are refused; raises `BadInput` by one that has none.
    Warns of rows that judge the model and were shown to it, and of a type that this machine has no instructions for.
    """
    refuse_unknown(resolved, search)
    refuse_lacking(resolved.backends())
    problems, repeated, rows = _check_rows(resolved)
    resolved.refuse(problems)
    for one in repeated:
        warnings.warn(TunewrightWarning(str(one)), stacklevel=2)
    device = resolved.loader.device()  # before any library is asked for its signatures: this one sets it offline
    shown = shown_by(resolved, rows) if rows is not None else {}  # by libraries that only training brings
    slow = slow_types(resolved)
    if slow:
        fix = " and ".join(f"`{field}: fp32`" for field in slow)
        warnings.warn(TunewrightWarning(f"{next(iter(slow.values()))}; to run it here, set {fix}"), stacklevel=2)
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
    steps = tuple(steps_of(resolved, pin, about, device, searched(resolved, search)))
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = step.key(keys)
    guessed = {training.name: guess(training, learnt) for training, learnt in rows.learnt} if rows is not None else {}
    return Plan(resolved.spec.name, steps, keys, lock, arguments, device, resolved, repeated, shown, guessed)


def slow_types(resolved: Resolved) -> dict[str, str]:
    """By field of the spec, why this machine is slow in the type that it names."""
    asked = {"model.dtype": resolved.spec.model.dtype, "quantization.compute_dtype": resolved.quantizer.computes_in()}
    return {field: why for field, dtype in asked.items() if dtype and (why := resolved.loader.caution(dtype))}


def _pin(resolved: Resolved) -> Pin:
    try:
        return resolved.source.pin()
    except BadOption as error:
        raise SpecError([resolved.problem(resolved.source, error.finding)], resolved.document.sources) from error


def _check_rows(resolved: Resolved) -> tuple[list[Problem], tuple[Repeat, ...], AllRows | None]:
    """Every row becomes an example, and the client's own rules see all that is learnt.

    Gives what is wrong, the rows that judge and were shown to the model, which is only told, and all rows; None where
    some cannot be read.
    """
    learnt: dict[DataSource, list[Row]] = {}
    problems, found, rows = list[Problem](), list[Repeat](), None
    try:
        rows = read_all(resolved)
        _make_examples(resolved, rows)
        for training, made in rows.learnt:
            for source, one in zip(training.train, made.train, strict=True):
                learnt.setdefault(source, one.rows)
        problems += _too_few_examples(resolved, rows)
        found = repeats(rows)
        problems += [resolved.problem(one.source, one.finding()) for one in found if one.refused]
    except BadSource as error:
        problems.append(resolved.problem(error.source, error.finding))
    every = tuple(tuple(learnt.get(source, ())) for source in sources_learnt(resolved))
    problems += client_rules(resolved, replace(resolved.facts, rows=every, complete=True))
    return problems, tuple(one for one in found if not one.refused), rows


def _too_few_examples(resolved: Resolved, found: AllRows) -> Iterator[Problem]:
    """Of baselines that show more training rows than there are. Which of them are questions, the run alone looks up."""
    learnt = {training: once_each(rows.train) for training, rows in found.learnt}
    for baseline in resolved.baselines:
        shots = [resolved.shown_before(resolved.asked[one.name]) for one in baseline.asked if baseline.few_shot]
        least = min((len(learnt[one.training]) for one in shots if one is not None), default=baseline.few_shot)
        if least < baseline.few_shot:
            place = resolved.document.at(("baselines", baseline.place, "few_shot"))
            yield Problem("too-few-examples", too_few(baseline.few_shot, least), place, fewer(least))


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
        "kinds": {part: getattr(resolved, part).kind for part in ("source", "quantizer", "adapter", "format")},
        "trainings": [
            {"name": one.name, "kind": one.trainer.kind, "called": called(resolved, one.trainer)}
            for one in resolved.trainings
        ],
        "libraries": libraries(resolved),
        "dtype": resolved.spec.model.dtype,
        "license": resolved.source.license,
        "repeats": [one.to_json() for one in repeated],
    }


def libraries(resolved: Resolved) -> dict[str, str]:
    """Versions of every library that a backend of this spec names."""
    names = {name for backend in resolved.backends() for name in backend.libraries}
    return {name: library_version(name) for name in sorted(names)}


def written(value: Any, place: str = "") -> list[str]:
    """The dotted path of every value that a spec or `--set` says; what is not among them is a default."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found = [path for name, one in inner for path in written(one, f"{place}.{name}" if place else str(name))]
    return found or [place]


def called(resolved: Resolved, backend: Backend) -> str:
    """What a plan calls a backend: `trainer/sft`, and `dpo: trainer/dpo` for a stage's."""
    key = f"{backend.part}/{backend.kind}"
    stage = next((training.name for training in resolved.trainings if training.trainer is backend), "")
    return f"{stage}: {key}" if stage else key
