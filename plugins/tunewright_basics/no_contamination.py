"""`no_contamination`: the questions that judge were not learnt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts import Facts, Finding, Gate
from tunewright.parts.gate import Contamination, Evidence, GateOptions, Verdict
from tunewright.spec.suggest import did_you_mean


class NoContaminationOptions(GateOptions):
    """Options of a gate on contaminated items."""

    kind: str = "no_contamination"
    evaluation: Annotated[
        str | None, Field(description="Whose items, by the evaluation's name; by default those of every evaluation.")
    ] = None
    at_most: Annotated[int, Field(ge=0, description="Items that may stand among the learnt rows all the same.")] = 0


class NoContamination(Gate[NoContaminationOptions]):
    """Counts the items that stand among the rows that were learnt or chose among checkpoints: as they are, nearly,
    within a longer row, or in large part.

    Where nothing was looked up, it fails: that no item was found then says nothing. So it does where the training went
    on from a parent and it is not known what that learnt of an item.
    """

    kind = "no_contamination"
    Options: ClassVar = NoContaminationOptions
    reads = frozenset({"evaluation", "at_most"})

    def metrics(self) -> frozenset[str]:
        return frozenset()

    def check(self, facts: Facts) -> Iterable[Finding]:
        name = self.options.evaluation
        if name is not None and name not in facts.evaluations:
            near = did_you_mean(name, facts.evaluations)
            yield Finding("unknown-metric", f"no evaluation is called `{name}`", "evaluation", near)

    def judge(self, evidence: Evidence) -> Verdict:
        found = evidence.contamination
        if found is None or not found.compared:
            return Verdict(self._sentence(), False, "no item was looked up among the rows that were learnt")
        name = self.options.evaluation
        if name is not None and name not in found.items:
            looked = ", ".join(f"`{one}`" for one in sorted(found.items))
            return Verdict(self._sentence(), False, f"no item of `{name}` was looked up, only those of {looked}")
        return self._counted(found, sorted(found.items) if name is None else [name])

    def _counted(self, found: Contamination, names: list[str]) -> Verdict:
        counts = {name: len(found.items[name]) for name in names if found.items[name]}
        total = sum(counts.values())
        unlooked = {name: found.unlooked[name] for name in names if found.unlooked.get(name)}
        where = f": {', '.join(f'{count} of `{name}`' for name, count in counts.items())}" if counts else ""
        why = f"{total or 'none'} of them were found{where}"
        if unlooked:
            whose = ", ".join(f"{count} of `{name}`" for name, count in unlooked.items())
            why += f", but what the parent learnt was not looked at for {whose}"
        return Verdict(self._sentence(), total <= self.options.at_most and not unlooked, why)

    def _sentence(self) -> str:
        name, most = self.options.evaluation, self.options.at_most
        whose = f"of `{name}`" if name is not None else "of any evaluation"
        if not most:
            return f"no item {whose} stands among the rows that were learnt or chosen by"
        return (
            f"at most {most} item{'s' if most > 1 else ''} {whose} stand among the rows that were learnt or chosen by"
        )
