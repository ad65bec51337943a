"""The steps of a resolved spec, from fetch to package, and which output each of them reads."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from tunewright.parts import Cap, Evaluator, Exporter, Gate
from tunewright.parts.evaluator import serves
from tunewright.parts.gate import form_score
from tunewright.parts.model_source import Pin
from tunewright.pipeline.certify import Certifier
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.rows import ClaimRows, TrainingRows
from tunewright.pipeline.saved import taken_up
from tunewright.pipeline.shots import ShownRows
from tunewright.pipeline.step import Step
from tunewright.pipeline.tasks.contamination import Contaminated
from tunewright.pipeline.tasks.evaluate import Evaluate
from tunewright.pipeline.tasks.export import Export
from tunewright.pipeline.tasks.fetch import Fetch
from tunewright.pipeline.tasks.gate import Judge, baseline_port
from tunewright.pipeline.tasks.merge import Merge
from tunewright.pipeline.tasks.package import Package
from tunewright.pipeline.tasks.parity import Parity
from tunewright.pipeline.tasks.prepare import Prepare
from tunewright.pipeline.tasks.quantize import QUANTIZE, Quantize
from tunewright.pipeline.tasks.reference import Refer
from tunewright.pipeline.tasks.report import Report
from tunewright.pipeline.tasks.search import Search
from tunewright.pipeline.tasks.train import Train
from tunewright.resolve import Resolved
from tunewright.resolve.resolved import Baseline, Claims, Training


class Made(NamedTuple):
    """Where the steps after the trainings find what they need: the base that is served, what was trained on it."""

    model: str
    trained: str


def steps_of(
    resolved: Resolved,
    pin: Pin,
    about: Mapping[str, Any],
    device: str,
    searched: Mapping[str, Sequence[Exporter]] = MappingProxyType({}),
) -> Iterator[Step]:
    """The steps in their order; `about` is what report and package say of the run besides its outputs.

    `searched` holds the variants of every export that is to be searched, by its name.
    """
    steps = _Steps(resolved, about, device)
    yield from steps.rows(pin)
    made = yield from steps.base()
    for training in resolved.trainings:
        made = yield from steps.training(training, made)
    forms = yield from steps.forms(made, searched)
    yield from steps.verdict(forms)


class Forms(NamedTuple):
    """The ports of what was trained, of every form of it, of the certificate, and of each search by its step."""

    trained: Mapping[str, str]
    exports: Mapping[str, str]
    adapter: str
    """The export of what was trained, as it is."""
    certified: Mapping[str, str]
    searches: Mapping[str, str]


@dataclass(frozen=True)
class _Steps:
    """A run, part by part. Each tells the next where its outputs stand."""

    resolved: Resolved
    about: Mapping[str, Any]
    device: str

    @cached_property
    def opener(self) -> Opener:
        one = self.resolved
        return Opener(one.loader, one.engine, one.quantizer, one.adapter, one.spec.model.dtype)

    @property
    def judged(self) -> dict[str, str]:
        """The answers of both sides, where anything is asked."""
        return {"base": "evaluate-base", "tuned": "evaluate-tuned"} if self.resolved.evaluators else {}

    @property
    def learnt(self) -> str:
        """The rows of the last training, by which what packs weights is calibrated."""
        return self.resolved.trainings[-1].suffix("prepare")

    def rows(self, pin: Pin) -> Iterator[Step]:
        """Before anything is asked or trained: what is found among the rows can be left out."""
        resolved, seed = self.resolved, self.resolved.spec.seed
        yield Step("fetch", Fetch(resolved.source, pin), {})
        learning = {training.name: TrainingRows(training, seed) for training in resolved.trainings}
        # the rows of all are proven before the first training: a merge keeps the tokenizer
        for training in resolved.trainings:
            trainer = training.trainer
            prepare = Prepare(resolved.loader, learning[training.name], trainer.options.max_length, trainer.packs)
            yield Step(training.suffix("prepare"), prepare, {"model": "fetch"})
        if resolved.evaluators:
            parent = taken_up(resolved.adapter).get("parent")
            looked = Contaminated(learning, _asked(resolved), self.about["repeats"], parent)
            yield Step("contamination", looked, {})

    def base(self) -> Generator[Step, None, Made]:
        """The base that is trained on, and what it and other baselines answer."""
        resolved, made = self.resolved, Made("fetch", "")
        if Cap.MAKES in resolved.quantizer.offers():
            quantize = Quantize(resolved.loader, resolved.quantizer, resolved.spec.model.dtype, resolved.spec.seed)
            yield Step(QUANTIZE, quantize, {"model": "fetch", "rows": self.learnt}, self.device)
            made = Made(QUANTIZE, "")
        read = {"model": made.model}
        if resolved.evaluators:
            yield Step("evaluate-base", _evaluate(resolved, self.opener), read, self.device)
        for baseline in resolved.baselines:
            yield Step(evaluated(baseline), _baseline(resolved, self.opener, baseline), read, self.device)
        return made

    def training(self, training: Training, before: Made) -> Generator[Step, None, Made]:
        """The steps of one training: what it trains on comes from the stage before."""
        resolved, device = self.resolved, self.device
        spec, trainer, adapter = resolved.spec, training.trainer, resolved.adapter
        model, parent, given = before.model, {}, None
        if before.trained and training.adapter == "merge":
            merge = Merge(self.opener.whole, before.trained.removeprefix("train-"))
            model = training.suffix("merge")
            yield Step(model, merge, {"model": before.model, "trained": before.trained})
        elif before.trained:
            parent = {"parent": before.trained}
        else:
            given = taken_up(adapter).get("parent")
        made = Made(model, training.suffix("train"))
        read = {"model": model, "rows": training.suffix("prepare"), **parent}
        if trainer.refers(spec.seed) is not None:
            afresh = given is None and not parent
            on = None if afresh and Cap.NEUTRAL in adapter.offers() else adapter
            refer = Refer(resolved.loader, resolved.quantizer, on, trainer, spec.model.dtype, spec.seed, given)
            yield Step(training.suffix("reference"), refer, read, device)
            read = {**read, "reference": training.suffix("reference")}
        facts = resolved.facts_for(trainer)
        train = Train(resolved.loader, resolved.quantizer, adapter, trainer, spec.model.dtype, spec.seed, facts, given)
        yield Step(made.trained, train, read, device)
        return made

    def forms(self, made: Made, searched: Mapping[str, Sequence[Exporter]]) -> Generator[Step, None, Forms]:
        """What was trained, asked and exported; every form with its certificate, and other options of those refused."""
        resolved, opener, device = self.resolved, self.opener, self.device
        trained = {"model": made.model, "trained": made.trained}
        if resolved.evaluators:
            # what answers as the tuned model is told from the base by what it thinks, or else by what it says
            yield Step("evaluate-tuned", _evaluate(resolved, opener), {**trained, "base": "evaluate-base"}, device)
        exports = {f"export-{exporter.name}": exporter for exporter in resolved.exporters}
        for name, exporter in exports.items():
            calibrated = self._calibrated(exporter)
            export = Export(exporter, opener, resolved.spec.seed)
            yield Step(name, export, {**trained, **calibrated}, device if calibrated else "")
        certifier, forms = _certifier(resolved, opener), {name: name for name in exports}
        yield Step("parity", Parity(certifier), {**trained, **forms, **self.judged}, device)
        certified, searches = {"parity": "parity"}, dict[str, str]()
        for name, variants in searched.items():
            own, form = exports[f"export-{name}"], f"export-{name}"
            search = Search(own, variants, certifier, _gates_on(resolved, name))
            read = {**trained, **self.judged, **certified, form: form, **self._calibrated(own)}
            yield Step(f"search-{name}", search, read, device)
            certified, searches[f"search-{name}"] = {"parity": f"search-{name}"}, f"search-{name}"
        adapter = next(name for name, exporter in exports.items() if exporter.kind == "adapter")
        return Forms(trained, forms, adapter, certified, searches)

    def _calibrated(self, exporter: Exporter) -> dict[str, str]:
        return {"rows": self.learnt} if exporter.calibrates else {}

    def verdict(self, forms: Forms) -> Iterator[Step]:
        """The gates, the report and the package."""
        resolved, about = self.resolved, self.about
        looked_up = {"contamination": "contamination"} if resolved.evaluators else {}
        compared = {baseline_port(one.name): evaluated(one) for one in resolved.baselines}
        judge = Judge(resolved.evaluators, resolved.gates, resolved.spec.seed, resolved.baselines)
        yield Step("gate", judge, {**self.judged, **forms.certified, **compared, **looked_up})
        shown = {
            **forms.trained, **_trainings(resolved), "export": forms.adapter, "gate": "gate", **forms.certified,
            **self.judged, **looked_up,
        }  # fmt: skip
        yield Step("report", Report(about, resolved.evaluators), shown)
        packed = {**shown, **forms.exports, **forms.searches, "report": "report"}
        yield Step("package", Package(about, resolved.spec.package, resolved.evaluators, resolved.quantizer), packed)


def _gates_on(resolved: Resolved, form: str) -> list[Gate]:
    """The gates that read scores of this form and of nothing else: they judge its variants as they will judge it."""

    def read(metric: str) -> str:
        named = (one.name for one in resolved.exporters if metric.startswith(form_score(one.name, "")))
        return max(named, key=len, default="")  # names may have dots

    return [gate for gate in resolved.gates if {read(metric) for metric in gate.metrics()} == {form}]


def _trainings(resolved: Resolved) -> dict[str, str]:
    """The ports of every training: its prepare and its train."""
    return {one.suffix(step): one.suffix(step) for one in resolved.trainings for step in ("prepare", "train")}


def _golden(resolved: Resolved) -> Claims:
    """Rows to ask every form with: the test rows, or the last training's where there are none."""
    last = resolved.trainings[-1]
    return resolved.test if resolved.test.sources else Claims(last.format, last.train, None, (last.format,))


def _evaluate(resolved: Resolved, opener: Opener) -> Evaluate:
    return Evaluate(opener, _asked(resolved), resolved.asked_by)


def evaluated(baseline: Baseline) -> str:
    """The step that asks a baseline."""
    return f"evaluate-{baseline.name}"


def _baseline(resolved: Resolved, opener: Opener, baseline: Baseline) -> Evaluate:
    """The same questions; with examples where the baseline has some, by its own engine where it has one."""
    asked = {one: _rows_for(resolved, baseline, one) for one in baseline.asked}
    engines = {one.name: baseline.engine or resolved.asked_by[one.name] for one in baseline.asked}
    return Evaluate(replace(opener, foreign=baseline.engine is not None), asked, engines)


def _rows_for(resolved: Resolved, baseline: Baseline, evaluator: Evaluator) -> ClaimRows:
    claims, seed = resolved.asked[evaluator.name], resolved.spec.seed
    if not baseline.few_shot:
        return ClaimRows(claims, seed)
    shots = resolved.shown_before(claims)
    assert shots is not None  # else it was refused
    return ShownRows(claims, shots, baseline.few_shot, seed)


def _certifier(resolved: Resolved, opener: Opener) -> Certifier:
    seed = resolved.spec.seed
    return Certifier(
        opener=opener,
        plain=resolved.plain(),
        engines=resolved.opened_by,
        golden=ClaimRows(_golden(resolved), seed),
        asked=_certified(resolved),
        answered=_answered(resolved),
        seed=seed,
        blocked=tuple(resolved.host.blocked),
    )


def _certified(resolved: Resolved) -> dict[Evaluator, ClaimRows]:
    """Those that the loader's own engine can serve: by what it answers, forms are compared."""
    return {evaluator: rows for evaluator, rows in _asked(resolved).items() if serves(resolved.engine, evaluator)}


def _answered(resolved: Resolved) -> tuple[Evaluator, ...]:
    """Those that it was asked by as the evaluations stand: with other options, a batch may round otherwise."""
    own = resolved.engine.options
    return tuple(one for one in resolved.evaluators if resolved.asked_by[one.name].options == own)


def _asked(resolved: Resolved) -> dict[Evaluator, ClaimRows]:
    """The rows of every evaluation."""
    seed = resolved.spec.seed
    return {evaluator: ClaimRows(resolved.asked[evaluator.name], seed) for evaluator in resolved.evaluators}
