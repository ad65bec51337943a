"""report: one HTML file that says what was trained on what, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.grading.calibration import reliability
from tunewright.parts import Backend, Evaluator
from tunewright.parts.evaluator import Graded
from tunewright.parts.prompt_format import said
from tunewright.pipeline.confusion import classes, labelled
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.contamination import LEDGER
from tunewright.pipeline.tasks.evaluate import asked, proofs, read_graded, unproven
from tunewright.pipeline.tasks.export import FORM
from tunewright.pipeline.tasks.fetch import RECORD
from tunewright.pipeline.tasks.gate import EVIDENCE
from tunewright.pipeline.tasks.parity import PARITY
from tunewright.pipeline.tasks.search import searches
from tunewright.pipeline.tasks.train import OUTCOME
from tunewright.pipeline.trainings import OF_ROWS, parent, totals, trainings
from tunewright.report.facts import ReportFacts
from tunewright.report.page import render
from tunewright.spec.dump import dump
from tunewright.store import disk
from tunewright.store.publish import Artifact

PAGE = "report.html"
MEASURED = ("seconds", "peak_rss_bytes", "peak_device_bytes", "forecast_bytes")
"""What a step's manifest tells of how it went."""
SHOWN, MOST_SHOWN = 8, 24  # rows won, and rows lost, that the page shows: of an evaluation, and of all where it can
SURE, RIGHT = "confidence", "accuracy"  # grades of an evaluation that tells how sure the model is, and how right

HAIR = 1e-6  # what rounding may put a probability beyond 0 or 1
Answers = Mapping[Evaluator, Sequence[Sequence[Graded]]]
"""What base and tuned model answered, by evaluation."""
Pair = tuple[Graded, Graded]
"""One item's answers: the base's and the tuned model's."""
Shown = dict[str, Any]
"""The same as the page has it."""


class Report(Task):
    """The page; its figures are the steps' own, its seconds and memory those of their manifests."""

    version = 5

    def __init__(self, about: Mapping[str, Any], evaluators: Sequence[Evaluator]) -> None:
        self.about, self.evaluators = about, tuple(evaluators)

    def parts(self) -> tuple[Backend, ...]:
        return self.evaluators

    def settings(self) -> dict[str, Any]:
        return {"about": dict(self.about)}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        disk.write(out / PAGE, render(self.facts(inputs, context)).encode())
        return {}

    def facts(self, inputs: Mapping[str, Artifact], context: Context) -> ReportFacts:
        """Plain data for the page, from the steps' outputs alone."""
        record, outcome = inputs["model"].json(RECORD), inputs["trained"].json(OUTCOME)
        evidence, told = inputs["gate"].json(EVIDENCE), trainings(inputs, self.about)
        failed = [gate for gate in evidence["gates"] if not gate["passed"]]
        size = inputs["export"].json(FORM)["bytes"]
        answers = {one: [read_graded(inputs[side], one.name) for side in ("base", "tuned")] for one in self.evaluators}
        found = {
            "name": self.about["name"],
            "verdict": "failed" if failed else "passed",
            "why": "; ".join(f"{gate['gate']}: {gate['why']}" for gate in failed),
            "base": {
                "name": record["name"],
                "license": self.about["license"],
                "identity": record["identity"]["identity"],
            },
            "quantization": self._part("quantizer"),
            "adapter": {**self._part("adapter"), **_only(outcome, "trainable", "total"), "bytes": size},
            **self._trained(told),
            "parent": parent(inputs, self.about),
            "data": {
                **totals(told),
                **({} if told[0]["name"] else _only(told[0], *OF_ROWS)),  # a stage has its own
                "test_rows": asked(inputs),
                "repeats": [one["message"] for one in self.about["repeats"]],
            },
            **_only(evidence, "scores", "gates", "readings", "baselines", "unanswered", "answers"),
            **self._of_answers(answers),
            "proofs": proofs(inputs),
            "unproven": unproven(inputs),
            "contamination": self._contamination(inputs, evidence["clean"]),
            "steps": [{"name": n, **{f: m.get(f) for f in MEASURED}} for n, m in context.manifests.items()],
            "substituted": [{**found, "stage": one["name"]} for one in told for found in one["substituted"]],
            **_only(outcome, "machine"),
            "parity": self._certificates(inputs["parity"]),
            "search": self._searches(inputs["parity"]),
            "examples": self._examples(answers),
            "mask": [{**row, "stage": one["name"]} for one in told for row in one["mask"]],
            "libraries": self.about["libraries"],
            "spec_text": dump(self.about["lock"]),
        }
        return ReportFacts.model_validate(found)

    def _contamination(self, inputs: Mapping[str, Artifact], clean: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was looked up and found, and the scores without it."""
        if "contamination" not in inputs:
            return None
        ledger = inputs["contamination"].json(LEDGER)
        of_rows = ("name", "rows", "equal", "otherwise", "near", "groups")
        of_items = ("origin", "kind", "similarity", "row", "rows", "answer")
        return {
            "threshold": ledger["method"]["threshold"],
            "trainings": [_only(training, *of_rows) for training in ledger["trainings"]],
            "evaluations": {
                name: {
                    **_only(looked, "items", "removed", "unlooked"),
                    "found": [_only(one, *of_items) for one in looked["found"]],
                }
                for name, looked in ledger["evaluations"].items()
            },
            "clean": clean,
        }

    def _certificates(self, certified: Artifact) -> dict[str, Any]:
        """Each form's row of the certificate, and the figures that only this machine has."""
        figures = certified.manifest["notes"]["figures"]
        shown = (
            "engine", "agreement", "prompts", "diverged", "first_divergence", "retokenized", "unended", "kl", "scores",
            "refused", "bytes",
        )  # fmt: skip
        return {form: {**_only(found, *shown), **figures[form]} for form, found in certified.json(PARITY).items()}

    def _searches(self, certified: Artifact) -> dict[str, Any]:
        """What was tried of each export that was searched."""
        shown = ("written", "agreement", "kl", "scores", "refused", "bytes")
        return {
            form: {"found": search["found"], "tried": [_only(one, *shown) for one in search["tried"]]}
            for form, search in searches(certified).items()
        }

    def _part(self, part: str) -> dict[str, Any]:
        kind = self.about["kinds"][part]
        return {"kind": kind, "arguments": self.about["arguments"].get(f"{part}/{kind}", {})}

    def _trained(self, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How the only training went, or each of several."""
        of_rows = ("name", "rows", "tokens", "supervised", "steps", *OF_ROWS)
        found = [
            {
                "trainer": {"kind": one["trainer"], "arguments": self.about["arguments"].get(planned["called"], {})},
                "loss": one["losses"],
                "memory": one["memory"],
                "validation": {
                    "rows": one["validation_rows"],
                    "loss": one["validation"],
                    "best_step": one["best_step"],
                },
            }
            for one, planned in zip(told, self.about["trainings"], strict=True)
        ]
        if not told[0]["name"]:
            return found[0]
        return {"stages": [{**_only(one, *of_rows), **went} for one, went in zip(told, found, strict=True)]}

    def _of_answers(self, answers: Answers) -> dict[str, Any]:
        """What was taken for what, and how sure the model was, of the evaluations that tell it."""
        found: dict[str, dict[str, Any]] = {"classes": {}, "calibration": {}}
        for evaluator, (base, tuned) in answers.items():
            for task in labelled(evaluator, base, tuned):
                if (measured := classes(task)) is not None:
                    found["classes"][task.name] = measured
            if all(map(_tells_how_sure, (*base, *tuned))):
                found["calibration"][evaluator.name] = {"base": _sure(base), "tuned": _sure(tuned)}
        return found

    def _examples(self, answers: Answers) -> dict[str, Any]:
        """By evaluation, the first rows that the tuned model gets right and the base does not, and the other way round:
        of each as many, and no more together than a reader looks at."""
        # given texts that were scored are no two answers to show
        changed = {one.name: _changed(one, *sides) for one, sides in answers.items() if one.asks}
        found = {name: them for name, them in changed.items() if them.won or them.lost}
        most = max(1, min(SHOWN, MOST_SHOWN // max(1, len(found))))
        return {
            name: {
                "metric": them.metric,
                "won": list(map(_shown, them.won[:most])),
                "lost": list(map(_shown, them.lost[:most])),
                "won_count": len(them.won),
                "lost_count": len(them.lost),
            }
            for name, them in found.items()
        }


class Changed(NamedTuple):
    """The rows won and those lost by `metric`; by several where tasks have each their own."""

    metric: str
    won: Sequence[Pair]
    lost: Sequence[Pair]


def _changed(evaluator: Evaluator, base: Sequence[Graded], tuned: Sequence[Graded]) -> Changed:
    """By the first of the evaluation's metrics that a row has a grade in, as `compare --why` has it: a sum of several
    would let one make up for another. The first row of each task comes before its second, so that each task is seen."""
    metrics, less = list(evaluator.summaries()), evaluator.lower_is_better()
    by: set[str] = set()
    won, lost = list[Pair](), list[Pair]()
    for before, after in zip(base, tuned, strict=True):
        metric = next((one for one in metrics if one in before.grades and one in after.grades), None)
        if metric is None or before.grades[metric] == after.grades[metric]:
            continue
        by.add(metric)
        better = (after.grades[metric] > before.grades[metric]) != (metric in less)
        (won if better else lost).append((before, after))
    return Changed(", ".join(one for one in metrics if one in by), _by_turns(won), _by_turns(lost))


def _by_turns(pairs: Sequence[Pair]) -> list[Pair]:
    """In their order, but for the turns that tasks take."""
    seen: Counter[str | None] = Counter()
    turns = []
    for pair in pairs:
        turns.append(seen[pair[0].item.task])
        seen[pair[0].item.task] += 1
    return [pairs[place] for place in sorted(range(len(pairs)), key=turns.__getitem__)]


def _shown(pair: Pair) -> Shown:
    base, tuned = pair
    return {
        "origin": base.item.origin,
        "prompt": said(base.item.prompt),
        "reference": base.item.reference,
        "base": base.answer.text,
        "tuned": tuned.answer.text,
        "alike": _alike(base.answer.text, tuned.answer.text),
        "token": _parting(base.answer.ids, tuned.answer.ids),
    }


def _alike(one: Sequence[object], other: Sequence[object]) -> int:
    """How many of both are the same from the first on."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


def _parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first token in which two answers differ; None where one is the beginning of the other."""
    place = _alike(one, other)
    return place if place < min(len(one), len(other)) else None


def _tells_how_sure(graded: Graded) -> bool:
    """Whether it has both grades, as shares: a plugin may call something else by these names."""
    return all(-HAIR <= graded.grades.get(name, -1) <= 1 + HAIR for name in (SURE, RIGHT))


def _sure(graded: Sequence[Graded]) -> list[dict[str, Any]]:
    """The bins of a reliability diagram."""
    bins = reliability([min(1.0, max(0.0, g.grades[SURE])) for g in graded], [g.grades[RIGHT] for g in graded])
    return [{"count": one.n, "confidence": one.confidence, "accuracy": one.accuracy} for one in bins]


def _only(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}
