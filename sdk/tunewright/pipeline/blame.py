"""compare --why: what differs between two runs, beside the items that the later one answers otherwise.

Everything is read from what the runs have committed. Whether a difference can matter at all is told by the steps' keys,
which hold all that can change an output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.digest import digest_json
from tunewright.errors import TunewrightError
from tunewright.parts.evaluator import Graded
from tunewright.pipeline.certificate import divergence
from tunewright.pipeline.compared import TUNED, Kept, alike, other_versions, why_not
from tunewright.pipeline.since import leaves
from tunewright.pipeline.tasks.fetch import RECORD
from tunewright.pipeline.tasks.prepare import ROWS
from tunewright.pipeline.tasks.train import OUTCOME

_LOCKED = ("locked", "seed")  # told apart from the fields of the spec


@dataclass(frozen=True)
class Differing:
    """One value of the first run and of the later one; None where a run has none of it.

    `set_by` says of each side who set it: `spec` (or `--set`), `tunewright` for a default, `library`; empty where the
    run does not tell.
    """

    what: str
    first: Any
    later: Any
    set_by: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class RowsDiffering:
    """The rows of one training, by what the model was shown: how many both runs have, and how many one alone.

    Copies that a mixture makes of a row count. `reordered` is true where all are the same, in another order.
    """

    training: str
    both: int
    only_first: int
    only_later: int
    reordered: bool


@dataclass(frozen=True)
class Flipped:
    """One item whose grade in the evaluation's first metric is another one. `first` and `later` are the answers.

    `token` is the first token of the answers, counted from 0, that differs: None where they are equal, so that the
    grading differs. `retokenized` is true where the prompt's own token ids are others.
    """

    id: str
    origin: str
    reference: str
    first: str
    later: str
    grades: tuple[float, float]
    token: int | None
    retokenized: bool


@dataclass(frozen=True)
class Flips:
    """An evaluation's items that the later run answers better (`won`) and worse (`lost`) by `metric`.

    `metric` is None where every score is made of all items at once, so that none is better or worse by itself.
    `otherwise` counts the answers that are others, whatever their grades; for an evaluation that scores given texts,
    the items whose grades are others.
    """

    metric: str | None
    items: int
    otherwise: int
    won: Sequence[Flipped]
    lost: Sequence[Flipped]


@dataclass(frozen=True)
class Blamed:
    """What differs, by where: `spec` and `arguments` (of libraries, where no field of the spec says so), `data`,
    `rows`, `model`, `libraries`, `plugins`, `evaluations` (files and code that they ask and grade by), `seed`,
    `machine`; the steps that are the same, and those that are not.

    `unreproducible` is a sentence where nothing differs that could have changed an answer, and answers differ.
    """

    differing: Mapping[str, Sequence[Differing]]
    rows: Sequence[RowsDiffering]
    same_steps: Sequence[str]
    other_steps: Sequence[str]
    flips: Mapping[str, Flips]
    refused: Mapping[str, str]
    unnamed: str
    """A sentence where steps differ, and nothing that has a name does."""
    unreproducible: str

    def to_json(self, most: int | None = None) -> dict[str, Any]:
        """As `compare --why --json` prints it, with at most so many items of a kind."""
        found = asdict(self)
        for flips in found["flips"].values():
            for side in ("won", "lost"):
                flips[f"{side}_count"] = len(flips[side])
                flips[side] = flips[side][:most]
        return found


def blame(first: Kept, later: Kept) -> Blamed:
    """What differs between two runs. Raises `BadInput` where one has no answers of its tuned model."""
    for run in (first, later):
        run.answers()
    differing = {what: found for what, some in _everything(first, later) if (found := list(some))}
    rows = [one for one in _rows(first, later) if one.only_first or one.only_later or one.reordered]
    flips, refused = _flips(first, later)
    ones, twos = first.keys, later.keys
    same = [name for name in twos if ones.get(name) == twos[name]]
    other = [name for name in dict.fromkeys([*ones, *twos]) if name not in same]
    reaching = ("fetch", "prepare", "quantize", "merge", "reference", "train", TUNED)
    reach = [name for name in other if name.startswith(reaching)]
    unnamed = "" if differing or rows or not reach else _unnamed(first, later, reach[0])
    return Blamed(differing, rows, same, other, flips, refused, unnamed, _unreproducible(first, later, flips))


def _unnamed(first: Kept, later: Kept, step: str) -> str:
    told = first.versions is not None and later.versions is not None
    or_else = "" if told or step != TUNED else "; or files that an evaluation asks by, such as a suite's, were edited"
    return (
        f"`{step}` is another step, and nothing that has a name differs: its code was changed without a new "
        f"version, in Tunewright or in a plugin{or_else}"
    )


def _everything(first: Kept, later: Kept) -> Iterator[tuple[str, Iterator[Differing]]]:
    locks = first.lock, later.lock
    fields = list(_fields(first, later))
    yield "spec", iter(fields)
    yield "arguments", _arguments(first, later, {one.what for one in fields})
    yield "seed", _differ(*({"seed": lock["seed"]} for lock in locks))
    yield "data", _differ(*(_digests(run) for run in (first, later)))
    yield "model", _differ(*(_model(run) for run in (first, later)))
    yield "libraries", _differ(*(run.plan.get("libraries", {}) for run in (first, later)))
    yield "plugins", _differ(*(lock["locked"]["plugins"] for lock in locks))
    yield "evaluations", _evaluations(first, later)
    yield "machine", _differ(*(_machine(run) for run in (first, later)))


def _differ(first: Mapping[str, Any], later: Mapping[str, Any]) -> Iterator[Differing]:
    for name in dict.fromkeys([*first, *later]):
        if first.get(name) != later.get(name):
            yield Differing(name, first.get(name), later.get(name))


def _fields(first: Kept, later: Kept) -> Iterator[Differing]:
    one, two = (
        dict(leaves({name: value for name, value in run.lock.items() if name not in _LOCKED})) for run in (first, later)
    )
    for found in _differ(one, two):
        yield Differing(found.what, found.first, found.later, (_set_by(first, found.what), _set_by(later, found.what)))


def _set_by(run: Kept, path: str) -> str:
    """Whether the spec says a field, itself or by a short form of what holds it; empty for runs that do not tell."""
    if "written" not in run.plan:
        return ""
    said = any(path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in run.plan["written"])
    return "spec" if said else "tunewright"


def _arguments(first: Kept, later: Kept, fields: set[str]) -> Iterator[Differing]:
    """Library arguments that differ without a field of their own doing so: a library's default, a derived value."""
    ends = {path.rpartition(".")[2] for path in fields}
    for backend in first.plan["arguments"].keys() & later.plan["arguments"].keys():
        one, two = (run.plan["arguments"][backend] for run in (first, later))
        for name in sorted({*one, *two}):
            sides = [side.get(name) or {"value": None, "set_by": "", "field": None} for side in (one, two)]
            before, after = (side["value"] for side in sides)
            if before != after and not {side["field"] for side in sides} & ends:
                set_by = (sides[0]["set_by"], sides[1]["set_by"])
                yield Differing(f"{backend}: {name}", before, after, set_by)


def _evaluations(first: Kept, later: Kept) -> Iterator[Differing]:
    """What evaluations of both runs ask and grade by; versions of libraries stand under `libraries`."""
    libraries = {*first.plan.get("libraries", {}), *later.plan.get("libraries", {})}
    for name in (name for name in first.evaluations if name in later.evaluations):
        for what, (one, two) in other_versions(first, later, name).items():
            if what not in libraries:
                yield Differing(f"{name}: {what}", one, two)


def _digests(run: Kept) -> Mapping[str, str]:
    found: Mapping[str, str] = run.lock["locked"]["data"]
    return found


def _model(run: Kept) -> dict[str, Any]:
    """What the base is pinned to, and which weights that were."""
    fetched = run.step("fetch")
    record = {"name": None, "identity": {}} if fetched is None else fetched.json(RECORD)
    identity = {f"identity.{name}": digest for name, digest in record["identity"].items() if name != "special"}
    return {"name": record["name"], **run.lock["locked"]["model"], **identity}


def _machine(run: Kept) -> dict[str, Any]:
    trained = [found for name in run.keys if name.startswith("train") and (found := run.step(name)) is not None]
    last = trained[-1].json(OUTCOME).get("machine", {}) if trained else {}
    return {**last, "device": run.plan["device"]}


def _rows(first: Kept, later: Kept) -> Iterator[RowsDiffering]:
    for name in first.keys:
        sides = [run.step(name) for run in (first, later)]
        if not name.startswith("prepare") or None in sides:
            continue
        one, two = ([_shown(line) for line in side.lines(ROWS)] for side in sides if side is not None)
        both = Counter(one) & Counter(two)
        common = sum(both.values())
        reordered = common == len(one) == len(two) and one != two
        yield RowsDiffering(name, common, len(one) - common, len(two) - common, reordered)


def _shown(row: Mapping[str, Any]) -> str:
    """What a training is shown of a row: not what it is called, nor where it stands."""
    return digest_json({name: value for name, value in row.items() if name not in ("row_id", "origin")})


def _flips(first: Kept, later: Kept) -> tuple[dict[str, Flips], dict[str, str]]:
    flips, refused = dict[str, Flips](), dict[str, str]()
    for name in dict.fromkeys([*first.evaluations, *later.evaluations]):
        try:
            sides = alike(first, later, name)
            evaluator = first.evaluator(name)
        except TunewrightError as error:
            refused[name] = why_not(error)
            continue
        graded = {metric for one in sides[0] for metric in one.grades}
        metric = next((metric for metric in evaluator.summaries() if metric in graded), None)
        flips[name] = flipped(*sides, metric, metric in evaluator.lower_is_better())
    return flips, refused


def flipped(first: Sequence[Graded], later: Sequence[Graded], metric: str | None, less: bool) -> Flips:
    """The items of one evaluation by whether the later run does them better; `less` says that a smaller grade is."""
    by_id = {graded.item.id: graded for graded in later}
    pairs = [(graded, by_id[graded.item.id]) for graded in first]
    won, lost, otherwise = list[Flipped](), list[Flipped](), 0
    for one, two in pairs:
        otherwise += one.answer.ids != two.answer.ids or one.grades != two.grades
        before, after = (None if metric is None else side.grades.get(metric) for side in (one, two))
        if before is not None and after is not None and before != after:
            (won if (after > before) != less else lost).append(_one(one, two, (before, after)))
    return Flips(metric, len(pairs), otherwise, won, lost)


def _one(first: Graded, later: Graded, grades: tuple[float, float]) -> Flipped:
    item, answers = first.item, (first.answer, later.answer)
    return Flipped(
        item.id, item.origin, item.reference, answers[0].text, answers[1].text, grades,
        divergence(*answers), answers[0].prompt_ids != answers[1].prompt_ids,
    )  # fmt: skip


def _unreproducible(first: Kept, later: Kept, flips: Mapping[str, Flips]) -> str:
    """Two evaluations of one key have read the same by the same code: their answers differ by chance alone."""
    others = sum(one.otherwise for one in flips.values())
    if not others or first.keys.get(TUNED) != later.keys.get(TUNED):
        return ""
    asked = sum(one.items for one in flips.values())
    where = ", ".join(f"{one.what} {one.first} → {one.later}" for one in _differ(_machine(first), _machine(later)))
    why = f"they ran on other machines ({where})" if where else "what they ran on is the same too, as far as is known"
    return (
        f"the runs are not reproducible: {others} of {asked} answers differ, and nothing that should decide over them "
        f"does; {why}"
    )
