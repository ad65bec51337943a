"""compare: what the tuned models of several runs answered to the same items, the first run's beside each later one's.

It reads what runs have committed and asks no model. Every comparison is paired by item; evaluations that did not ask
the same are named, and not compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from tunewright.errors import BadInput, Refused, TunewrightError
from tunewright.host import Host
from tunewright.parts import Evaluator
from tunewright.parts.evaluator import Graded
from tunewright.parts.gate import Score
from tunewright.pipeline.tasks.evaluate import SUBJECT, read_graded
from tunewright.stats.holm import adjusted
from tunewright.stats.paired import compare_all
from tunewright.stats.seeds import Between, between
from tunewright.store.publish import Artifact, read_artifact

TUNED, BASE = "evaluate-tuned", "evaluate-base"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ROWS = ("format", "test", "engine")
"""Options of an evaluation that say what is asked and who asks: they have no say in how answers are graded.

Of the engine it is told by itself, since the lock has none where an evaluation names none."""


class Kept:
    """A run as its folder holds it."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder, self.host = folder, host
        self._graded: dict[tuple[str, str], list[Graded]] = {}

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """`plan.json`. Raises `BadInput` where it cannot be read."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"the plan of the run in {self.folder} cannot be read: {error}") from error
        return found

    @property
    def lock(self) -> Mapping[str, Any]:
        """The spec with every default written out."""
        found: Mapping[str, Any] = self.plan["lock"]
        return found

    @property
    def keys(self) -> Mapping[str, str]:
        """Key of every step: two steps of equal keys have read the same, by the same code."""
        return {step["name"]: step["key"] for step in self.plan["steps"]}

    def step(self, name: str) -> Artifact | None:
        """A step's output; None where it was not finished, or is no longer there."""
        return read_artifact((self.folder / "steps" / name).resolve())

    @property
    def evaluations(self) -> dict[str, Mapping[str, Any]]:
        """Options of every evaluation, by its name, which need not be among them: `asked_by` has one for each."""
        return dict(zip(self.plan["asked_by"], self.lock["evals"], strict=True))

    @property
    def versions(self) -> Mapping[str, Mapping[str, str]] | None:
        """By evaluation, digests and versions of what decides over its questions and its grading beside its options.

        None in a run of before they were kept.
        """
        found: Mapping[str, Mapping[str, str]] | None = self.plan.get("versions")
        return found

    def evaluator(self, name: str) -> Evaluator:
        """An evaluation's backend, for how grades become scores.

        Raises `TunewrightError` where it cannot be made, `BadInput` where it no longer makes every score of the run.
        """
        options = {key: value for key, value in self.evaluations[name].items() if key not in _ROWS}
        try:
            made: Evaluator = self.host.make(Evaluator.part, {**options, **self._paths(name)})
            lacking = sorted(self.metrics(name) - made.summaries().keys())
        except ValidationError as error:
            why = "; ".join(one["msg"] for one in error.errors())
            raise BadInput(f"the evaluation's options are not those of the installed one: {why}") from error
        if lacking:
            raise self._no_longer(name, lacking)
        return made

    def _paths(self, name: str) -> Mapping[str, str]:
        """An evaluation's paths, whole: the lock has them as the spec wrote them, relative to its own folder."""
        found: Mapping[str, str] = self.plan.get("paths", {}).get(name, {})
        return found

    def _no_longer(self, name: str, lacking: Sequence[str]) -> BadInput:
        kind, where = self.evaluations[name]["kind"], self._paths(name)
        message = f"`{kind}` as it is now makes no {', '.join(f'`{metric}`' for metric in lacking)}, which the run has"
        if where:
            held = " and ".join(f"{path} (`{field}`)" for field, path in where.items())
            return BadInput(message, fix=f"put {held} back as it was when the run was made")
        if "paths" not in self.plan:  # a run of before they were kept
            return BadInput(message, fix="compare in the folder of the run's spec, or run the spec again")
        return BadInput(message, fix="install the version of its plugin that `spec.lock.yaml` of the run names")

    def answers(self, step: str = TUNED) -> Artifact:
        """What an evaluate step wrote. Raises `BadInput` where it was not finished."""
        found = self.step(step)
        if found is None:
            raise BadInput(
                f"the run in {self.folder} has no finished step `{step}`",
                fix="run its spec to the end, with at least one entry in `evals:`",
            )
        return found

    def graded(self, name: str, step: str = TUNED) -> list[Graded]:
        """What was answered to an evaluation's items. Raises as `answers`."""
        if (step, name) not in self._graded:
            self._graded[step, name] = read_graded(self.answers(step), name)
        return self._graded[step, name]

    def metrics(self, name: str) -> frozenset[str]:
        """The metrics of an evaluation that the run has scores of. Raises as `answers`."""
        return frozenset(score.removeprefix(f"{name}.") for score in self.scores() if self._owner(score) == name)

    def _owner(self, score: str) -> str:
        """Names and metrics may hold dots themselves: the longest name counts."""
        return max((name for name in self.evaluations if score.startswith(f"{name}.")), key=len, default="")

    def scores(self, step: str = TUNED) -> Mapping[str, float]:
        """Every score of the tuned model, or of the base, as the run has worked it out. Raises as `answers`."""
        found: dict[str, float] = self.answers(step).json(SUBJECT)["scores"]
        return found


class Other(NamedTuple):
    """How the items of one evaluation differ between two runs, in counts."""

    only_first: int
    only_later: int
    prompts: int
    references: int
    choices: int
    tasks: int

    def __bool__(self) -> bool:
        return any(self)

    def __str__(self) -> str:
        said = {
            "only the first run asked": self.only_first,
            "only the later one asked": self.only_later,
            "have another prompt": self.prompts,
            "have another reference": self.references,
            "have other choices": self.choices,
            "belong to another task": self.tasks,
        }
        return ", ".join(f"{count} {what}" for what, count in said.items() if count)


def other_items(first: Sequence[Graded], later: Sequence[Graded]) -> Other:
    """Items by their ids, and those under one id by what is asked, what is right and what there is to choose from."""
    one, two = ({graded.item.id: graded.item for graded in side} for side in (first, later))
    both = [(one[name], two[name]) for name in one.keys() & two.keys()]
    return Other(
        len(one.keys() - two.keys()),
        len(two.keys() - one.keys()),
        sum(a.prompt != b.prompt for a, b in both),
        sum(a.reference != b.reference for a, b in both),
        sum(a.choices != b.choices for a, b in both),
        sum(a.task != b.task for a, b in both),
    )


def other_groups(first: Sequence[Graded], later: Sequence[Graded]) -> int:
    """How many items stand in another group: the same question, that is not drawn with the same others."""
    groups = {graded.item.id: graded.item.group for graded in later}
    return sum(graded.item.group != groups[graded.item.id] for graded in first)


@dataclass(frozen=True)
class Against:
    """A later run against the first: in each `Score` `base` is the first run's, `tuned` the later one's.

    `p_adjusted` is Holm's over these scores. `refused` says of an evaluation why it is not compared, `notes` what to
    know of one that is.
    """

    scores: Mapping[str, Score]
    refused: Mapping[str, str]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Compared:
    """Runs side by side: the scores of each, None where it has no such score; each later run against the first.

    `seeds` is there where the runs differ in their seed and in nothing else: by metric, the gain over the base with
    what seeds differ by kept apart from what items do; or the reason for which it cannot be told.
    """

    runs: Sequence[Kept]
    scores: Mapping[str, Sequence[float | None]]
    against: Sequence[Against]
    seeds: Mapping[str, Between | str] | None = None

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {
            "runs": [
                {"run": letter, "run_dir": str(run.folder), "name": run.lock["name"], "seed": run.lock["seed"]}
                for letter, run in zip(letters(len(self.runs)), self.runs, strict=True)
            ],
            "scores": {name: list(found) for name, found in self.scores.items()},
            "against_first": [
                {
                    "run": letter,
                    "scores": {name: asdict(score) for name, score in one.scores.items()},
                    "refused": dict(one.refused),
                    "notes": dict(one.notes),
                }
                for letter, one in zip(letters(len(self.runs))[1:], self.against, strict=True)
            ],
            "seeds": None if self.seeds is None else {name: _seeds(one) for name, one in self.seeds.items()},
        }


def _seeds(found: Between | str) -> dict[str, Any]:
    return {"why_not": found} if isinstance(found, str) else asdict(found)


def letters(count: int) -> list[str]:
    """What the runs are called: A, B, …, Z, R27, …."""
    return [LETTERS[place] if place < len(LETTERS) else f"R{place + 1}" for place in range(count)]


def compare_runs(folders: Sequence[Path], host: Host) -> Compared:
    """Compare runs by their folders. Raises `BadInput` for fewer than two, or for one that has no answers."""
    if len(folders) < 2:
        raise BadInput("there is nothing to compare one run with", fix="name two runs or more")
    runs = [Kept(folder, host) for folder in folders]
    against = [_against(runs[0], later) for later in runs[1:]]
    return Compared(runs, _side_by_side(runs), against, _by_seed(runs, against))


def _side_by_side(runs: Sequence[Kept]) -> dict[str, list[float | None]]:
    found = [run.scores() for run in runs]
    return {name: [scores.get(name) for scores in found] for name in dict.fromkeys(n for one in found for n in one)}


def _against(first: Kept, later: Kept) -> Against:
    scores, refused, notes = dict[str, Score](), dict[str, str](), dict[str, str]()
    for name in dict.fromkeys([*first.evaluations, *later.evaluations]):
        try:
            scores |= dict(_compared(first, later, name))
        except TunewrightError as error:
            refused[name] = why_not(error)
            continue
        if told := "; ".join(_notes(first, later, name)):
            notes[name] = told
    return Against(adjusted(scores), refused, notes)


def _compared(first: Kept, later: Kept, name: str) -> Iterator[tuple[str, Score]]:
    sides = alike(first, later, name)
    evaluator = first.evaluator(name)
    shared = first.metrics(name) & later.metrics(name)
    for metric, score in compare_all(evaluator, *sides, first.lock["seed"], metrics=shared):
        yield f"{name}.{metric}", score


def why_not(error: TunewrightError) -> str:
    """Why an evaluation is not compared, with what to do, in one line."""
    return f"{error.message}; {error.fix}" if error.fix else error.message


def alike(first: Kept, later: Kept, name: str) -> tuple[list[Graded], list[Graded]]:
    """What both have answered to an evaluation's items. Raises `BadInput` or `Refused` where it is not comparable."""
    for run, which in ((first, "the first run"), (later, "the later run")):
        if name not in run.evaluations:
            raise BadInput(f"{which} has no evaluation of this name")
    kinds = [run.evaluations[name]["kind"] for run in (first, later)]
    if kinds[0] != kinds[1]:
        raise Refused(f"it is `{kinds[0]}` in the first run and `{kinds[1]}` in the later one")
    sides = first.graded(name), later.graded(name)
    if other := other_items(*sides):
        raise Refused(f"its items differ: {other}")
    return sides


def _notes(first: Kept, later: Kept, name: str) -> Iterator[str]:
    """What to know of an evaluation that is compared: each sentence names both values."""
    if otherwise := graded_otherwise(first, later, name):
        yield f"answers were graded otherwise: {otherwise}"
    if others := other_versions(first, later, name):
        yield f"what grades them is another: {_both(others)}"
    if engines := _other_engines(*(run.plan["asked_by"][name] for run in (first, later))):
        yield f"another engine asked: {_both(engines)}"
    if groups := other_groups(first.graded(name), later.graded(name)):
        yield f"{groups} items stand in another group: those of the first run count"


def other_versions(first: Kept, later: Kept, name: str) -> dict[str, tuple[Any, Any]]:
    """What decides over an evaluation's questions and grading beside its options, where it differs.

    Nothing of runs that do not tell.
    """
    if first.versions is None or later.versions is None:
        return {}
    return _differing(*(run.versions.get(name, {}) for run in (first, later) if run.versions is not None))


def _other_engines(first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The options that differ; of two kinds the kinds alone, since options of one mean nothing to the other."""
    found = _differing(first, later)
    return {"kind": found["kind"]} if "kind" in found else found


def _differing(first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*first, *later])
    return {name: (first.get(name), later.get(name)) for name in names if first.get(name) != later.get(name)}


def _both(values: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {_short(one)} → {_short(two)}" for name, (one, two) in values.items())


def _short(value: Any) -> str:
    """A digest by its beginning, which tells it from another."""
    if value is None:
        return "none"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and not text.strip("0123456789abcdef") else text


def graded_otherwise(first: Kept, later: Kept, name: str) -> str:
    """The options of an evaluation that differ, with both values; empty where none does. Its metrics do not count."""
    one, two = (run.evaluations[name] for run in (first, later))
    names = sorted({*one, *two} - {*_ROWS, "metrics", "name"})
    return ", ".join(f"{n} {one.get(n)} → {two.get(n)}" for n in names if one.get(n) != two.get(n))


def _by_seed(runs: Sequence[Kept], against: Sequence[Against]) -> dict[str, Between | str] | None:
    """None where the runs differ in anything but the seed, or two share one."""
    seeds = [str(run.lock["seed"]) for run in runs]
    if len(set(seeds)) < len(seeds) or any(_without_seed(run) != _without_seed(runs[0]) for run in runs):
        return None
    shared = set.intersection(*(set(one.scores) for one in against))
    found = dict[str, Between | str]()
    for name in runs[0].evaluations:
        metrics = runs[0].evaluator(name).summaries() if name not in against[0].refused else ()
        for metric in metrics:
            if (score := f"{name}.{metric}") in shared:
                found[score] = _between(runs, name, metric)
    return found


def _between(runs: Sequence[Kept], name: str, metric: str) -> Between | str:
    """The gain over the base by seed, or why it cannot be told: only a mean of a grade is a sum over items."""
    answers = {str(run.lock["seed"]): run.graded(name) for run in runs}
    try:
        found = between(answers, runs[0].graded(name, BASE), metric)
    except TunewrightError as error:
        return error.message
    score = f"{name}.{metric}"
    gains = [run.scores()[score] - run.scores(BASE)[score] for run in runs]
    if not math.isclose(found.gain, sum(gains) / len(gains), abs_tol=1e-9):
        return "it is no mean over items"
    return found


def _without_seed(run: Kept) -> Mapping[str, Any]:
    """All that a run is made of but its seed; a label such as the run's name has no say in it."""
    plan = {"device": run.plan["device"], "libraries": run.plan.get("libraries")}
    return {**{key: value for key, value in run.lock.items() if key not in ("seed", "name", "package")}, **plan}
