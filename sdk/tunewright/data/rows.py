"""From sources to the rows of a run: filtered, drawn by the seed, broken ones stopped at or set aside and counted."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, DataSource, Row, SourceOptions, reads
from tunewright.spec.suggest import did_you_mean

MOST_KNOWN = 20  # values of a column that a message lists


@dataclass(frozen=True)
class Realised:
    """The rows of one source as the run will use them, and what was left out."""

    name: str
    rows: list[Row]
    read: int
    set_aside: list[Broken] = field(default_factory=list)


def realise(source: DataSource, seed: int, place: int = 0) -> Realised:
    """One source's rows: `where`, then `sample` or `limit`, then `weight`, in the source's order.

    Raises `BadOption` where no row is left or a value of `where` never occurs, `BadInput` at a broken row.
    """
    options: SourceOptions = source.options
    kept, read, set_aside = _filter(source, options)
    if not kept:
        raise BadOption("no-rows", f"`{source.name}` has no rows{' that match `where`' if read else ''}", "path")
    rng = random.Random(digest_json(["sample", seed, place]))
    rows = list(_weighted(_draw(kept, options, rng), options.weight, rng))
    if not rows:
        raise BadOption("no-rows", f"`weight: {options.weight:g}` leaves none of {len(kept)} rows", "weight")
    return Realised(source.name, rows, read, set_aside)


def draws(source: DataSource) -> bool:
    """Whether the seed has a say in which rows of a source are taken."""
    options: SourceOptions = source.options
    return options.sample is not None or options.weight % 1 != 0


def _filter(source: DataSource, options: SourceOptions) -> tuple[list[Row], int, list[Broken]]:
    wanted = options.wanted()
    seen: dict[str, set[str]] = {column: set() for column in wanted}
    kept: list[Row] = []
    set_aside: list[Broken] = []
    read = 0
    for row in source.rows():
        if isinstance(row, Broken):
            set_aside.append(_stop_or_keep(row, options))
            continue
        read += 1
        found = {column: reads(row.fields.get(column)) for column in wanted}
        for column, value in found.items():
            seen[column].add(value)
        if all(value in wanted[column] for column, value in found.items()):
            kept.append(row)
    if read:
        _refuse_unseen(source, wanted, seen)
    return kept, read, set_aside


def _stop_or_keep(row: Broken, options: SourceOptions) -> Broken:
    if options.on_error == "stop":
        raise BadInput(
            f"{row.origin}: {row.why}", fix="mend the row, or set `on_error: set_aside` to leave such rows out"
        )
    return row


def _refuse_unseen(source: DataSource, wanted: Mapping[str, set[str]], seen: Mapping[str, set[str]]) -> None:
    for column, values in wanted.items():
        missing = sorted(values - seen[column])
        if missing:
            shown = ", ".join(f"`{value}`" for value in missing)
            message = f"no row of `{source.name}` has {column} = {shown}"
            known = (
                seen[column] if len(seen[column]) <= MOST_KNOWN else set(get_close_matches(missing[0], seen[column]))
            )
            raise BadOption("value-never-occurs", message, f"where.{column}", did_you_mean(missing[0], known))


def _draw(rows: list[Row], options: SourceOptions, rng: random.Random) -> list[Row]:
    if options.limit is not None:
        return rows[: options.limit]
    if options.sample is None:
        return rows
    if options.sample > len(rows):
        raise BadOption("sample-too-large", f"{len(rows)} rows are there to draw {options.sample} from", "sample")
    return [rows[index] for index in sorted(rng.sample(range(len(rows)), options.sample))]


def _weighted(rows: Sequence[Row], weight: float, rng: random.Random) -> Iterator[Row]:
    """Whole copies of every row, then a drawn share for the rest; a copy's id says which it is."""
    whole, share = divmod(weight, 1)
    for copy in range(int(whole)):
        yield from (row if copy == 0 else replace(row, id=f"{row.id}#{copy + 1}") for row in rows)
    extra = sorted(rng.sample(range(len(rows)), round(share * len(rows))))
    mark = f"#{int(whole) + 1}" if whole else ""
    yield from (replace(rows[index], id=f"{rows[index].id}{mark}") for index in extra)


def realise_all(sources: Sequence[DataSource], seed: int) -> list[Realised]:
    """Every source's rows, ids unique over all of them."""
    found = [realise(source, seed, place) for place, source in enumerate(sources)]
    names = [one.name for one in found]
    if len(set(names)) == len(names):
        return found
    return [
        replace(one, rows=[replace(row, id=f"{place + 1}/{row.id}") for row in one.rows])
        for place, one in enumerate(found)
    ]
