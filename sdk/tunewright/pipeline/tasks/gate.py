"""gate: base against tuned, row by row, and whether what the spec demands of them and of the exports holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.parts import Backend, Evaluator, Gate
from tunewright.parts.gate import Contamination, Evidence, Score, Verdict, form_score
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.contamination import looked_up
from tunewright.pipeline.tasks.evaluate import read_graded
from tunewright.pipeline.tasks.parity import PARITY
from tunewright.stats.holm import adjusted
from tunewright.stats.paired import compare
from tunewright.store import disk
from tunewright.store.publish import Artifact

EVIDENCE = "evidence.json"


class Judge(Task):
    """Scores with paired intervals, and a verdict for each gate."""

    version = 2

    def __init__(self, evaluators: Sequence[Evaluator], gates: Sequence[Gate], seed: int) -> None:
        self.evaluators, self.gates, self.seed = tuple(evaluators), tuple(gates), seed

    def parts(self) -> tuple[Backend, ...]:
        return (*self.evaluators, *self.gates)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        scores: dict[str, Score] = {}
        found = looked_up(inputs)
        for evaluator in self.evaluators:
            base, tuned = (read_graded(inputs[port], evaluator.name) for port in ("base", "tuned"))
            less = evaluator.lower_is_better()
            for metric, summary in evaluator.summaries().items():
                score = compare(base, tuned, metric, summary, self.seed, metric in less)
                scores[f"{evaluator.name}.{metric}"] = score
        scores = adjusted(scores)
        shown = Evidence({**scores, **_of_forms(inputs["parity"].json(PARITY))}, found)
        verdicts = [_judged(gate, shown) for gate in self.gates]
        evidence = {
            "scores": {name: asdict(score) for name, score in scores.items()},
            "clean": {name: asdict(score) for name, score in self._clean(inputs, found)},
            "gates": [asdict(verdict) for verdict in verdicts],
        }
        disk.write(out / EVIDENCE, canonical_json(evidence))
        return evidence

    def _clean(self, inputs: Mapping[str, Artifact], found: Contamination | None) -> Iterator[tuple[str, Score]]:
        """The scores of every evaluation without its items that were learnt, where it has some, and others besides."""
        for evaluator in self.evaluators:
            seen = set(found.items[evaluator.name]) if found else set()
            base, tuned = (
                [one for one in read_graded(inputs[port], evaluator.name) if one.item.id not in seen]
                for port in ("base", "tuned")
            )
            if not seen or not base:
                continue
            for metric, summary in evaluator.summaries().items():
                try:
                    score = compare(base, tuned, metric, summary, self.seed)
                except ZeroDivisionError:  # no item is left that this metric concerns
                    continue
                yield f"clean.{evaluator.name}.{metric}", score


def _of_forms(certificates: Mapping[str, Any]) -> dict[str, Score]:
    """The scores of every exported form, by the names that gates call them."""
    return {
        form_score(form, measure): score_of(score)
        for form, found in certificates.items()
        for measure, score in found["scores"].items()
    }


def score_of(found: Mapping[str, Any]) -> Score:
    """A score, as it was written."""
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return Score(**read)


def _judged(gate: Gate, evidence: Evidence) -> Verdict:
    """The gate's verdict, under the name that the spec gives it if it gives one."""
    verdict = gate.judge(evidence)
    return replace(verdict, gate=getattr(gate.options, "name", None) or verdict.gate)
