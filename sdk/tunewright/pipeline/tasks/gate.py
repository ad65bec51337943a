"""gate: base against tuned, row by row, and whether what the spec demands of them and of the exports holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.parts import Backend, Evaluator, Gate
from tunewright.parts.evaluator import Graded
from tunewright.parts.gate import Contamination, Evidence, Score, Verdict, baseline_score, form_score
from tunewright.pipeline.answers import habits
from tunewright.pipeline.readings import Answered, Shown, readings
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.contamination import looked_up
from tunewright.pipeline.tasks.evaluate import read_graded
from tunewright.pipeline.tasks.parity import PARITY
from tunewright.resolve.resolved import Baseline
from tunewright.stats.holm import adjusted
from tunewright.stats.paired import compare_all
from tunewright.store import disk
from tunewright.store.publish import Artifact

EVIDENCE = "evidence.json"


class Judge(Task):
    """Scores with paired intervals, and a verdict for each gate.

    The answers of each baseline come by the port `baseline_port`.
    """

    version = 5

    def __init__(
        self,
        evaluators: Sequence[Evaluator],
        gates: Sequence[Gate],
        seed: int,
        baselines: Sequence[Baseline] = (),
    ) -> None:
        self.evaluators, self.gates, self.seed = tuple(evaluators), tuple(gates), seed
        self.baselines = tuple(baselines)

    def parts(self) -> tuple[Backend, ...]:
        return (*self.evaluators, *self.gates)

    def settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "baselines": {
                one.name: {
                    "asked": [evaluator.name for evaluator in one.asked],
                    "unanswered": dict(one.unanswered),
                    "few_shot": one.few_shot,
                    "of_base": one.engine is None,
                }
                for one in self.baselines
            },
        }

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        answers = {
            evaluator: tuple(read_graded(inputs[port], evaluator.name) for port in ("base", "tuned"))
            for evaluator in self.evaluators
        }
        found = looked_up(inputs)
        scores = adjusted({name: one for each in answers for name, one in self._compared(each, *answers[each])})
        clean = {f"clean.{name}": one for each in answers for name, one in self._clean(each, answers[each], found)}
        baselines = {  # each a family of its own
            one.name: adjusted(dict(self._against(inputs[baseline_port(one.name)], one.asked, answers)))
            for one in self.baselines
        }
        named = {baseline_score(name, key): one for name, them in baselines.items() for key, one in them.items()}
        shown = Evidence({**scores, **named, **_of_forms(inputs["parity"].json(PARITY))}, found)
        verdicts = [_judged(gate, shown) for gate in self.gates]
        evidence = {
            "scores": _plain(scores),
            "clean": _plain(clean),
            "baselines": {name: _plain(them) for name, them in baselines.items()},
            "unanswered": {one.name: dict(one.unanswered) for one in self.baselines if one.unanswered},
            "answers": {
                one.name: {side: habits(graded) for side, graded in zip(("base", "tuned"), answers[one], strict=True)}
                for one in answers
            },
            "readings": readings(
                scores,
                [
                    Shown(one.few_shot, self._by_examples(inputs, one, answers))
                    for one in self.baselines
                    if one.few_shot and one.engine is None
                ],
                [Answered(one, *answers[one]) for one in answers],
                self.seed,
            ),
            "gates": [asdict(verdict) for verdict in verdicts],
        }
        disk.write(out / EVIDENCE, canonical_json(evidence))
        return evidence

    def _compared(
        self, evaluator: Evaluator, base: Sequence[Graded], tuned: Sequence[Graded]
    ) -> Iterator[tuple[str, Score]]:
        for metric, score in compare_all(evaluator, base, tuned, self.seed):
            yield f"{evaluator.name}.{metric}", score

    def _clean(
        self,
        evaluator: Evaluator,
        sides: Sequence[Sequence[Graded]],
        found: Contamination | None,
    ) -> Iterator[tuple[str, Score]]:
        """The scores without the items that were learnt, where there are some, and others besides."""
        seen = set(found.items[evaluator.name]) if found else set()
        base, tuned = ([one for one in side if one.item.id not in seen] for side in sides)
        if not seen or not base:
            return
        # of some metrics no item may be left
        for metric, score in compare_all(evaluator, base, tuned, self.seed, skip_undefined=True):
            yield f"{evaluator.name}.{metric}", score

    def _against(
        self, baseline: Artifact, asked: Sequence[Evaluator], answers: Mapping[Evaluator, Sequence[Sequence[Graded]]]
    ) -> Iterator[tuple[str, Score]]:
        """The scores of a baseline, and of the tuned model beside it."""
        for evaluator in asked:
            _, tuned = answers[evaluator]
            yield from self._compared(evaluator, _of_baseline(baseline, evaluator, tuned), tuned)

    def _by_examples(
        self,
        inputs: Mapping[str, Artifact],
        baseline: Baseline,
        answers: Mapping[Evaluator, Sequence[Sequence[Graded]]],
    ) -> dict[str, Score]:
        """The scores of the bare base, and as `tuned` those of the base with examples."""
        found: dict[str, Score] = {}
        for evaluator in baseline.asked:
            base, _ = answers[evaluator]
            shown = _of_baseline(inputs[baseline_port(baseline.name)], evaluator, base)
            found |= self._compared(evaluator, base, shown)
        return found


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: asdict(score) for name, score in scores.items()}


def baseline_port(name: str) -> str:
    """The port by which a baseline's answers come in."""
    return f"baseline-{name}"


def _of_baseline(baseline: Artifact, evaluator: Evaluator, asked: Sequence[Graded]) -> list[Graded]:
    """What a baseline answered, as answers to the questions that were `asked` without it."""
    by_id = {graded.item.id: graded for graded in asked}
    return [_as_asked(graded, by_id) for graded in read_graded(baseline, evaluator.name)]


def _as_asked(graded: Graded, tuned: Mapping[str, Graded]) -> Graded:
    """What a baseline answered, as an answer to the question that the tuned model was asked.

    Examples stand before a baseline's question, and the question with its reference is the same.
    """
    other = tuned.get(graded.item.id)
    same = other is not None and other.item.reference == graded.item.reference
    return replace(graded, item=other.item) if other is not None and same else graded


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
