"""The kit for a trainer's reference: asked once for many trainings, it depends on nothing that it does not name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunewright.errors import TunewrightError
from tunewright.parts import Trainer
from tunewright.parts.trainer import Reference
from tunewright.testing import contract, fields
from tunewright.testing.compare import difference
from tunewright.testing.violations import Report

Ask = Callable[[Trainer, int], Reference]
"""What a trainer's `reference` gives for the kit's rows, on a fresh model, by a seed."""


def check_reference(
    made: Trainer, rows: int, ask: Ask, came_to: Callable[[Reference | None], Any], report: Report
) -> None:
    """Nothing for a trainer that has none. `came_to` trains with a reference, and gives what came of it."""
    depends = made.refers(0)
    if depends is None:
        return
    plain = ask(made, 0)
    told = len(plain.train) == rows and all(map(_are_numbers, plain.train))
    says = f"`reference` was asked about {rows} rows: give a mapping of names and finite numbers a row"
    report.expect(told, "bad-contract", says)
    if not told:
        return
    for what, other, seed in _alike(made, depends):
        try:
            where = difference(list(plain.train), list(ask(other, seed).train))
        except TunewrightError:
            continue  # an option that does not go with the others
        says = f"{what}, `reference` gives other numbers ({where}) while `refers` stays: name there what they depend on"
        report.expect(not where, "reference-differs", says)
    alone = came_to(None)
    says = "given what its own `reference` gave, it trains otherwise than where it asks itself: let both be one code"
    report.expect(came_to(plain) == alone, "reference-differs", says)
    says = "given another `job.reference`, it trains as with its own: use what it is given"
    report.expect(came_to(moved(plain)) != alone, "reference-ignored", says)


def moved(found: Reference) -> Reference:
    """Other numbers for every row, no two of a row moved alike: what they have in common may cancel."""
    return Reference([_moved(row, said) for row, said in enumerate(found.train)], found.validation)


def _moved(row: int, said: Mapping[str, float]) -> dict[str, float]:
    return {name: number + 1 + (row + 2 * place) % 3 for place, (name, number) in enumerate(said.items())}


def _are_numbers(said: Mapping[str, Any]) -> bool:
    return bool(said) and all(isinstance(one, float) and math.isfinite(one) for one in said.values())


def _alike(made: Trainer, depends: Mapping[str, Any]) -> Iterator[tuple[str, Trainer, int]]:
    """Trainers that must say the same by their own word, each with a seed, and what is other about them."""
    yield "asked again", made, 0
    if made.refers(1) == depends:
        yield "by another seed", made, 1
    backend, given = type(made), made.options.model_dump(exclude_unset=True)
    for name in contract.own_fields(backend):
        for options in [one for pair in fields.variations(backend, given, name)[:1] for one in pair]:
            other = backend(options)
            if options != made.options and other.refers(0) == depends:
                yield f"with another `{name}`", other, 0
