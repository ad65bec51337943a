"""contamination: rows that are learnt or choose checkpoints, and which items of the evaluations they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import MissingExtra, TunewrightWarning
from tunewright.parts import Backend, Evaluator
from tunewright.parts.base import library_version
from tunewright.parts.gate import Contamination
from tunewright.pipeline.inherited import known_by
from tunewright.pipeline.rows import ClaimRows, TrainingRows, rows_of
from tunewright.pipeline.saved import Saved
from tunewright.pipeline.seen import KINDS, METHOD, Learnt, ledger
from tunewright.pipeline.step import Context, Task
from tunewright.store import disk
from tunewright.store.publish import Artifact

LEDGER = "contamination.json"
REMEDY = "run the parent's own spec with this evaluation, and take the package that it makes"


class Contaminated(Task):
    """The ledger of what was compared and found. `repeats` is what the plan has told of already, `parent` what the
    first training goes on from."""

    version = 3

    def __init__(
        self,
        trainings: Mapping[str, TrainingRows],
        asked: Mapping[Evaluator, ClaimRows],
        repeats: Sequence[Mapping[str, Any]],
        parent: Saved | None = None,
    ) -> None:
        self.trainings, self.asked, self.repeats, self.parent = trainings, asked, repeats, parent

    def parts(self) -> tuple[Backend, ...]:
        rows: list[TrainingRows | ClaimRows] = [*self.trainings.values(), *self.asked.values()]
        return (*dict.fromkeys(part for one in rows for part in one.parts()), *self.asked)

    def settings(self) -> dict[str, Any]:
        return {
            "trainings": {name: rows.settings() for name, rows in self.trainings.items()},
            "rows": {evaluator.name: rows.settings() for evaluator, rows in self.asked.items()},
            "repeats": list(self.repeats),
            "datasketch": library_version("datasketch"),
        }

    def sources(self) -> Mapping[str, str]:
        named: list[tuple[str, TrainingRows | ClaimRows]] = [*self.trainings.items()]
        named += [(f"evaluation {evaluator.name}", rows) for evaluator, rows in self.asked.items()]
        taken = {} if self.parent is None else {"parent": self.parent.digest()}
        return taken | {f"{name} {place}": digest for name, rows in named for place, digest in rows.digests().items()}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        learnt = [one for name, rows in self.trainings.items() for one in _sets(name, rows)]
        claimed = {evaluator: rows.realise() for evaluator, rows in self.asked.items()}
        items = {
            evaluator.name: list(evaluator.items(self.asked[evaluator].examples_of(rows)))
            for evaluator, rows in claimed.items()
        }
        try:
            parent = None if self.parent is None else known_by(self.parent.told(LEDGER), METHOD)
            found = ledger(learnt, items, parent)
        except ModuleNotFoundError as error:
            raise MissingExtra("the search for near duplicates", "train", error) from error
        for evaluator, rows in claimed.items():
            found["evaluations"][evaluator.name]["removed"] = sum(one.dropped for one in rows)
        method = {**METHOD, "datasketch": library_version("datasketch")}
        found = {"method": method, **found, "repeats": [one["message"] for one in self.repeats]}
        disk.write(out / LEDGER, canonical_json(found))
        for name, looked in found["evaluations"].items():
            if any(one["kind"] != "exact" or not self.repeats for one in looked["found"]):  # else the plan has told
                context.warn(TunewrightWarning(f"{sentence(name, looked)}; the report has the scores without them"))
            if looked["unlooked"]:
                context.warn(TunewrightWarning(f"{unlooked(name, looked)}; {REMEDY}"))
        return {name: {"items": len(some)} for name, some in items.items()}


def _sets(name: str, rows: TrainingRows) -> Iterator[Learnt]:
    """What a training learns, and apart from it what chooses among its checkpoints."""
    found = rows.realise()
    yield Learnt(name, rows.format, found.train)
    if rows_of(found.validation):
        yield Learnt(f"validation of {name}" if name else "validation", rows.format, found.validation, chooses=True)


def looked_up(inputs: Mapping[str, Artifact]) -> Contamination | None:
    """What gates see of the ledger; None where there is none."""
    if "contamination" not in inputs:
        return None
    found = inputs["contamination"].json(LEDGER)
    return Contamination(
        compared=sum(looked["items"] for looked in found["evaluations"].values()),
        items={name: tuple(one["id"] for one in looked["found"]) for name, looked in found["evaluations"].items()},
        threshold=found["method"]["threshold"],
        unlooked={name: looked["unlooked"] for name, looked in found["evaluations"].items() if looked["unlooked"]},
    )


def sentences(inputs: Mapping[str, Artifact]) -> list[str]:
    """One for each evaluation some of whose items were found, and one for each that a parent was not asked about."""
    found = inputs["contamination"].json(LEDGER)["evaluations"] if "contamination" in inputs else {}
    learnt = [sentence(name, looked) for name, looked in found.items() if looked["found"]]
    return learnt + [unlooked(name, looked) for name, looked in found.items() if looked["unlooked"]]


def sentence(name: str, looked: Mapping[str, Any]) -> str:
    """What was found of one evaluation's items."""
    found = looked["found"]
    kinds = Counter(one["kind"] for one in found)
    how = ", ".join(f"{kinds[kind]} {said}" for kind, said in KINDS.items() if kinds[kind])
    answered = sum(one["answer"] for one in found)
    first, chosen = found[0], sum(not one["learnt"] for one in found)
    among = "are learnt" if not chosen else "choose checkpoints" if chosen == len(found) else "are learnt or choose"
    return (
        f"{len(found):,} of {looked['items']:,} items of `{name}` stand among the rows that {among} ({how}; "
        f"{answered} with their answer), such as {first['origin']} in {first['row']}"
    )


def unlooked(name: str, looked: Mapping[str, Any]) -> str:
    """Of which items nobody knows whether the parent learnt them."""
    return (
        f"{looked['unlooked']:,} of {looked['items']:,} items of `{name}` were not looked up among what the parent "
        "learnt: its package does not tell of them"
    )


def in_brief(ledger: Artifact) -> dict[str, Any]:
    """The ledger as `run --json` has it: counts, and the ids of what was found."""
    found = ledger.json(LEDGER)
    shown = ("name", "rows", "equal", "otherwise", "near", "groups")
    return {
        "threshold": found["method"]["threshold"],
        "trainings": [{key: one[key] for key in shown} for one in found["trainings"]],
        "evaluations": {
            name: {
                "items": looked["items"],
                "removed": looked["removed"],
                **{kind: sum(one["kind"] == kind for one in looked["found"]) for kind in KINDS},
                "answered": sum(one["answer"] for one in looked["found"]),
                "found": [one["id"] for one in looked["found"]],
                "message": sentence(name, looked) if looked["found"] else "",
                "unlooked": looked["unlooked"],
                "unknown": unlooked(name, looked) if looked["unlooked"] else "",
            }
            for name, looked in found["evaluations"].items()
        },
    }
