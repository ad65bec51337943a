"""The steps of a resolved spec, from fetch to package, and which output each of them reads."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
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
    spec, seed = resolved.spec, resolved.spec.seed
    opener = Opener(resolved.loader, resolved.engine, resolved.quantizer, resolved.adapter, spec.model.dtype)
    yield Step("fetch", Fetch(resolved.source, pin), {})
    for training in resolved.trainings:  # all rows are proven before the first training: a merge keeps the tokenizer
        options, rows = training.trainer.options, TrainingRows(training, seed)
        prepare = Prepare(resolved.loader, rows, options.max_length, training.trainer.packs)
        yield Step(training.suffix("prepare"), prepare, {"model": "fetch"})
    if resolved.evaluators:  # before anything is asked or trained: what is found can be left out
        learning = {training.name: TrainingRows(training, seed) for training in resolved.trainings}
        parent = taken_up(resolved.adapter).get("parent")
        yield Step("contamination", Contaminated(learning, _asked(resolved), about["repeats"], parent), {})
    made = Made("fetch", "")
    learnt = resolved.trainings[-1].suffix("prepare")
    if Cap.MAKES in resolved.quantizer.offers():
        quantize = Quantize(resolved.loader, resolved.quantizer, spec.model.dtype, seed)
        yield Step(QUANTIZE, quantize, {"model": "fetch", "rows": learnt}, device)
        made = Made(QUANTIZE, "")
    if resolved.evaluators:
        yield Step("evaluate-base", _evaluate(resolved, opener), {"model": made.model}, device)
    for baseline in resolved.baselines:
        yield Step(evaluated(baseline), _baseline(resolved, opener, baseline), {"model": made.model}, device)
    for training in resolved.trainings:
        made = yield from _training(resolved, training, made, device)
    model = {"model": made.model}
    trained = {**model, "trained": made.trained}
    if resolved.evaluators:
        # what answers as the tuned model is told from the base by what it thinks, or else by what it says
        yield Step("evaluate-tuned", _evaluate(resolved, opener), {**trained, "base": "evaluate-base"}, device)
    exports = {f"export-{exporter.name}": exporter for exporter in resolved.exporters}
    for name, exporter in exports.items():
        calibrated = {"rows": learnt} if exporter.calibrates else {}
        yield Step(name, Export(exporter, opener, seed), {**trained, **calibrated}, device if calibrated else "")
    form = next(name for name, exporter in exports.items() if exporter.kind == "adapter")
    judged = {"base": "evaluate-base", "tuned": "evaluate-tuned"} if resolved.evaluators else {}
    looked_up = {"contamination": "contamination"} if resolved.evaluators else {}
    forms = {name: name for name in exports}
    certifier = _certifier(resolved, opener)
    yield Step("parity", Parity(certifier), {**trained, **forms, **judged}, device)
    certified, searches = {"parity": "parity"}, dict[str, str]()
    for name, variants in searched.items():
        own = next(exporter for exporter in resolved.exporters if exporter.name == name)
        read = {f"export-{name}": f"export-{name}", **({"rows": learnt} if own.calibrates else {})}
        step = f"search-{name}"
        search = Search(own, variants, certifier, _gates_on(resolved, name))
        yield Step(step, search, {**trained, **judged, **certified, **read}, device)
        certified, searches[step] = {"parity": step}, step
    compared = {baseline_port(one.name): evaluated(one) for one in resolved.baselines}
    judge = Judge(resolved.evaluators, resolved.gates, seed, resolved.baselines)
    yield Step("gate", judge, {**judged, **certified, **compared, **looked_up})
    shown = {**trained, **_trainings(resolved), "export": form, "gate": "gate", **certified, **judged, **looked_up}
    yield Step("report", Report(about, resolved.evaluators), shown)
    packed = {**shown, **forms, **searches, "report": "report"}
    yield Step("package", Package(about, spec.package, resolved.evaluators, resolved.quantizer), packed)


def _training(resolved: Resolved, training: Training, before: Made, device: str) -> Generator[Step, None, Made]:
    """The steps of one training: what it trains on comes from the stage before."""
    spec, trainer, adapter = resolved.spec, training.trainer, resolved.adapter
    model, parent, given = before.model, {}, None
    if before.trained and training.adapter == "merge":
        opener = Opener(resolved.loader, resolved.engine, resolved.quantizer, adapter, spec.model.dtype)
        merge = Merge(opener.whole, before.trained.removeprefix("train-"))
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
    return resolved.test if resolved.test.sources else Claims(last.format, last.train, None, last.read)


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
