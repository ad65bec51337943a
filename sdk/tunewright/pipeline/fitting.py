"""What to change in a spec so that it fits into a given memory: the least harmful changes whose forecast fits.

Backends tell the options of their own that save memory (`Trainer.levers`, `Quantizer.lightens`). They are pulled in the
order of their harm, each from its mildest step on, until the forecast fits; then each that came before the last is let
go as far as the forecast still fits. Every proposal is a spec that was resolved: it validates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.errors import BadInput
from tunewright.parts import Cap, Quantizer
from tunewright.parts.memory import Harm, Lever
from tunewright.resolve.resolved import Resolved
from tunewright.spec.problems import SpecError

UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30,
         "ti": 1 << 40}  # fmt: skip
SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


class Pull(NamedTuple):
    """A lever at a place in the spec: each step says what to set, `key.path` → value."""

    harm: Harm
    costs: str
    steps: tuple[Mapping[str, Any], ...]


class Change(NamedTuple):
    """What is proposed: the lines for `--set`, what they cost, and the forecast before and after, in bytes."""

    sets: tuple[str, ...]
    costs: str
    before: int
    after: int


class Proposal(NamedTuple):
    """Changes in the order of their harm; `bytes` is the most that is forecast with all of them, error bar included."""

    limit: int
    changes: tuple[Change, ...]
    bytes: int

    @property
    def fits(self) -> bool:
        """Whether the forecast is within the limit."""
        return self.bytes <= self.limit

    @property
    def sets(self) -> tuple[str, ...]:
        """Every line for `--set`."""
        return tuple(line for change in self.changes for line in change.sets)

    def to_json(self) -> dict[str, Any]:
        """As `plan --fit --json` prints it."""
        return {
            "limit_bytes": self.limit,
            "fits": self.fits,
            "bytes": self.bytes,
            "changes": [{**one._asdict(), "sets": list(one.sets)} for one in self.changes],
        }


def size_of(text: str) -> int:
    """Bytes of `16GB`, `16 GiB`, `500MB`. Raises `BadInput`."""
    found = SIZE.fullmatch(text)
    size = 0 if found is None else round(float(found[1]) * UNITS[(found[2] or "").lower()])
    if not size:
        raise BadInput(f"`{text}` is no size of memory", fix="write it as 16GB or 15.5GiB")
    return size


def propose(limit: int, resolved: Resolved, forecast: Callable[[Sequence[str]], int]) -> Proposal:
    """The least harmful changes that fit into `limit` bytes; where none do, those that come nearest.

    `forecast` gives the most bytes of the spec with these lines set; raises `SpecError` where it is then refused.
    """
    pulls = sorted(pulls_of(resolved), key=lambda pull: pull.harm)
    pulled: dict[int, int] = {}  # lever → how many of its steps
    tried: dict[tuple[str, ...], int | None] = {}

    def peak(of: Mapping[int, int]) -> int | None:
        lines = tuple(line for place in sorted(of) for line in lines_of(pulls[place], of[place]))
        if lines not in tried:
            try:
                tried[lines] = forecast(lines)
            except SpecError:  # as a packed base under full fine-tuning
                tried[lines] = None
        return tried[lines]

    now = peak({})
    assert now is not None  # it was planned before
    for place, pull in enumerate(pulls):
        for step in range(1, len(pull.steps) + 1):
            found = peak({**pulled, place: step}) if now > limit else None
            if found is not None and found < now:
                pulled, now = {**pulled, place: step}, found
    if now <= limit:
        pulled = _let_go(pulled, limit, peak)
    return _proposal(limit, pulls, pulled, peak)


def _let_go(pulled: dict[int, int], limit: int, peak: Callable[[Mapping[int, int]], int | None]) -> dict[int, int]:
    """Each lever back to the mildest step with which it still fits, the most harmful first."""
    for place in sorted(pulled, reverse=True):
        for step in range(pulled[place]):
            milder = {other: pulled[other] for other in pulled if other != place} | ({place: step} if step else {})
            found = peak(milder)
            if found is not None and found <= limit:
                pulled = milder
                break
    return pulled


def _proposal(
    limit: int, pulls: Sequence[Pull], pulled: Mapping[int, int], peak: Callable[[Mapping[int, int]], int | None]
) -> Proposal:
    changes, so_far = list[Change](), dict[int, int]()
    before = peak(so_far) or 0
    for place in sorted(pulled):
        so_far[place] = pulled[place]
        after = peak(so_far)
        after = before if after is None else after
        changes.append(Change(lines_of(pulls[place], pulled[place]), pulls[place].costs, before, after))
        before = after
    return Proposal(limit, tuple(changes), peak(pulled) or before)


def lines_of(pull: Pull, step: int) -> tuple[str, ...]:
    """The `--set` lines of a lever's step, counted from 1."""
    return tuple(f"{path}={_yaml(value)}" for path, value in pull.steps[step - 1].items())


def pulls_of(resolved: Resolved) -> Iterator[Pull]:
    """Every lever of a spec: the trainers' own, a smaller type, a base that is packed."""
    for training in resolved.trainings:
        where = resolved.where(training.trainer)
        for lever in training.trainer.levers():
            yield _placed(lever, where)
    dtype = resolved.spec.model.dtype
    if dtype == "fp32" and not resolved.loader.caution("bf16"):
        costs = "the base's numbers are rounded to 8 bits of precision, as most bases are published"
        yield Pull(Harm.TYPE, costs, ({"model.dtype": "bf16"},))
    if Cap.FULLY_TRAINABLE in resolved.quantizer.offers():
        for kind in resolved.host.kinds(Quantizer.part):
            costs = getattr(resolved.host.backend(Quantizer.part, kind), "lightens", "")
            if costs:
                yield Pull(Harm.PACKING, costs, ({"quantization": {"kind": kind, **_computing(resolved)}},))


def _computing(resolved: Resolved) -> dict[str, str]:
    """Where this machine is slow in 16 bits, a packed base is multiplied in the type of the rest."""
    dtype = resolved.spec.model.dtype
    return {"compute_dtype": dtype} if dtype == "fp32" and resolved.loader.caution("bf16") else {}


def _placed(lever: Lever, where: str) -> Pull:
    steps = tuple({f"{where}.{field}": value for field, value in step.items()} for step in lever.steps)
    return Pull(lever.harm, lever.costs, steps)


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
