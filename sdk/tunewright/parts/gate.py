"""What must hold before an adapter is handed over. Missing evidence fails a gate.

A complete gate:

    from typing import Annotated

    from pydantic import Field
    from tunewright.parts import Gate
    from tunewright.parts.gate import GateOptions, Verdict
    from tunewright.testing import check_gate

    class GainOptions(GateOptions):
        kind: str = "gain"
        metric: Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
        at_least: Annotated[float, Field(description="The smallest gain that passes.")] = 0.0

    class Gain(Gate[GainOptions]):
        kind, Options = "gain", GainOptions
        reads = frozenset({"metric", "at_least"})

        def metrics(self):
            return frozenset({self.options.metric})

        def judge(self, evidence):
            asked = self.options.name or f"{self.options.metric} gains {self.options.at_least:g}"
            score = evidence.get(self.options.metric)
            if score is None:
                return Verdict(asked, False, "there is no such score")
            why = f"it goes from {score.base:.3f} to {score.tuned:.3f} on {score.n} rows"
            return Verdict(asked, score.delta >= self.options.at_least, why)

    def test_it_keeps_its_contract(tmp_path):
        check_gate(Gain, {"metric": "heldout.exact_match"}, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import Backend, O, Options

AGREEMENT, KL = "agreement", "kl"
"""What the certificate of an exported form measures besides the evaluations: the share of the trained form's answer
tokens that it gives too, and how far its distribution of the next token is from the trained form's, in nats."""
CHANCE = 0.05
"""The p-value up to which a difference is read as one, wherever Tunewright reads it."""


def form_score(form: str, measure: str) -> str:
    """Name of a score of an exported form's certificate: of `agreement`, `kl`, or a metric of an evaluation.

    As gates see it, `base` is what the trained form has of it, and `tuned` what the exported one has.
    """
    return f"parity.{form}.{measure}"


def baseline_score(baseline: str, score: str) -> str:
    """Name of a score against a baseline: in the evidence `base` is what the baseline has, `tuned` the tuned model."""
    return f"baseline.{baseline}.{score}"


class GateOptions(Options):
    """The fields of every gate that the core itself reads."""

    name: Annotated[str | None, Field(description="How the report calls it; by default a sentence.", min_length=1)] = (
        None
    )


@dataclass(frozen=True)
class Score:
    """A score of base and tuned on the same `n` items; the interval is of the difference, 95 %, paired by item.

    `p_value` is exact where it can be, `p_mid` is McNemar's mid-p where the items are right or wrong, `p_adjusted` is
    Holm's over all scores of the run against the base, or against the same baseline. `base_ci95` and `tuned_ci95` are
    Wilson's where the score is a share. `clusters` counts what was drawn together: the items, or their groups. None and
    0 where it was not worked out.

    `compare_by` names the metric of the same evaluation to compare by where this one is biased (`Evaluator.biased`):
    neither `ci95` nor the p-values may then be read as a change.
    """

    n: int
    base: float
    tuned: float
    delta: float
    ci95: tuple[float, float]
    p_value: float
    p_mid: float | None = None
    p_adjusted: float | None = None
    base_ci95: tuple[float, float] | None = None
    tuned_ci95: tuple[float, float] | None = None
    clusters: int = 0
    lower_is_better: bool = False
    compare_by: str | None = None

    @property
    def beyond_chance(self) -> bool:
        """Whether the difference may be read at all: by the test, for the interval of a few items may leave out 0 by
        chance, and of a score that is not biased."""
        return self.p_value <= CHANCE and self.compare_by is None


@dataclass(frozen=True)
class Contamination:
    """Which items of the evaluations stand, as they are or nearly, among the rows that were learnt
    or chose among checkpoints.

    `compared` counts the items that were looked up, `items` holds the ids of those found, by evaluation. `unlooked`
    counts those of which it is not known whether a parent learnt them, that the training goes on from.
    """

    compared: int
    items: Mapping[str, tuple[str, ...]]
    threshold: float
    unlooked: Mapping[str, int] = field(default_factory=dict)


class Evidence(Mapping[str, Score]):
    """The scores of a run by their names, `<evaluation>.<metric>`; those of an exported form by `form_score`, against a
    baseline by `baseline_score`. `contamination` is None where nothing was looked up."""

    def __init__(self, scores: Mapping[str, Score], contamination: Contamination | None = None) -> None:
        self._scores, self.contamination = dict(scores), contamination

    def __getitem__(self, name: str) -> Score:
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


@dataclass(frozen=True)
class Verdict:
    """`gate` says what was asked in a sentence, `why` what was found."""

    gate: str
    passed: bool
    why: str


class Gate(Backend[O]):
    """Judges the evidence of a run."""

    part: ClassVar[str] = "gate"

    @abstractmethod
    def metrics(self) -> frozenset[str]:
        """The scores that it needs: `<evaluation>.<metric>`, of an exported form as in `form_score`, against a baseline
        as in `baseline_score`. `validate` refuses one that nothing in the spec makes."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Verdict:
        """Pass or fail; missing evidence is a failure."""
