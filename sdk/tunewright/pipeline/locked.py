"""What `spec.lock.yaml` holds: the spec with every default written out, every source pinned, every plugin named."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from tunewright.parts import Backend, DataSource, Evaluator, Exporter
from tunewright.parts.model_source import Pin
from tunewright.resolve import Resolved
from tunewright.resolve.resolved import Baseline, Training
from tunewright.spec.model import Split, Stage


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
        "baselines": [_locked_baseline(baseline) for baseline in resolved.baselines],
        "gates": [whole(gate) for gate in resolved.gates],
        "exports": [_locked_exporter(resolved, exporter) for exporter in resolved.exporters],
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
    if own.get("engine") is not None:
        own["engine"] = whole(resolved.asked_by[evaluator.name])
    return own


def _locked_exporter(resolved: Resolved, exporter: Exporter) -> dict[str, Any]:
    own = whole(exporter)
    if own.get("engine") is not None:
        own["engine"] = whole(resolved.opened_by[exporter.name])
    return own


def _locked_baseline(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": baseline.name,
        "few_shot": baseline.few_shot or None,
        "engine": None if baseline.engine is None else whole(baseline.engine),
    }


def _plugins(resolved: Resolved) -> dict[str, str]:
    """Every distribution that took part: by a backend, or by a hook that saw the spec or will hear the run."""
    host = resolved.host
    used = {host.table[f"{backend.part}/{backend.kind}"].plugin for backend in resolved.backends()}
    used |= {name for hook in ("tunewright_check_spec", "tunewright_run_event") for name, _, _ in host.each(hook)}
    return dict(sorted(host.plugins[name] for name in used))
