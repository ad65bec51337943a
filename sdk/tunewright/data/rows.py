"""From sources to the rows of a run: filtered, drawn by the seed, parted and mixed; broken ones stopped at or counted.

The order is: `where`, then `sample` or `limit`, then the splits over the rows of all sources together, then the
mixture. Copies are made last, so no copy of a row is on another side than the row itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction

from tunewright.data.same import Sameness
from tunewright.data.splits import Parts, Side, part
from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts.base import BadOption, Finding
from tunewright.parts.data_source import Broken, DataSource, Row, SourceOptions, reads, weights_at_odds
from tunewright.spec.model import Split
from tunewright.spec.suggest import did_you_mean

MOST_KNOWN = 20  # values of a column that a message lists


class BadSource(BadOption):
    """A source's option cannot be used; `source` says whose, so that it gets a position in the spec."""

    def __init__(self, source: DataSource, finding: Finding) -> None:
        super().__init__(finding.code, finding.message, finding.field, finding.suggestion)
        self.finding = finding
        self.source = source


@dataclass(frozen=True)
class Realised:
    """The rows of one source as the run will use them on one side of the splits, and what was left out.

    `read` counts the source's whole rows, `kept` those that `where`, `sample` or `limit` and the splits leave on this
    side, `rows` are what the mixture is given of them. `dropped` counts rows that are on no side, since they equal one
    that the split keeps.
    """

    name: str
    rows: list[Row]
    read: int
    set_aside: list[Broken] = field(default_factory=list)
    kept: int = 0
    dropped: int = 0

    @property
    def given(self) -> int:
        """Rows in one epoch of the mixture."""
        return len(self.rows)

    @property
    def copies(self) -> int:
        """Of these, how many are there again: a row is given again only when every row was given."""
        return max(0, self.given - self.kept)


def realise(source: DataSource, seed: int, place: int = 0) -> Realised:
    """One source's rows by itself: `where`, then `sample` or `limit`, then `epochs`, in the source's order.

    `weight` is a matter of the whole list, see `realise_all`. Raises `BadSource` where no row is left or a value of
    `where` never occurs, `BadInput` at a broken row.
    """
    one = _read(source, seed, place)
    count = _passes(source, one)
    return _give(one, count, seed, place, _mark([one], [count], [one]))


def realise_all(sources: Sequence[DataSource], seed: int) -> list[Realised]:
    """One epoch of the mixture of a list of sources, ids unique over all of them.

    Without weights, each source gives its rows × `epochs`. With weights, the mixture is the largest of N rows in which
    no source gives more than that; each gives round(N × its share), whole copies first and the rest drawn by the seed.
    The source that is used up first gives exactly its rows × `epochs`.

    Raises `BadSource` where the weights are at odds or a source would give nothing, and what `realise` raises.
    """
    found = _read_all(sources, seed)
    return _mix(sources, found, seed, found)


def realise_parts(
    sources: Sequence[DataSource],
    seed: int,
    same: Sameness,
    validation: Split | None = None,
    test: Split | None = None,
) -> Parts[list[Realised]]:
    """The mixture of a list of sources without the rows that the splits take out; these are given once each.

    Each side lists every source in the spec's order, a side without a split none. Raises what `realise_all` and `part`
    raise.
    """
    found = _read_all(sources, seed)
    sides = part([row for one in found for row in one.rows], validation, test, seed, same)
    return Parts(
        _mix(sources, _of_sources(found, sides.train), seed, found),
        _of_sources(found, sides.validation) if validation else [],
        _of_sources(found, sides.test) if test else [],
    )


def draws(source: DataSource) -> bool:
    """Whether the seed has a say in which rows of a source are taken."""
    options: SourceOptions = source.options
    return options.sample is not None or options.weight is not None or options.epochs % 1 != 0


def _read_all(sources: Sequence[DataSource], seed: int) -> list[Realised]:
    """What each source keeps before the splits, ids unique over all of them."""
    for source, finding in weights_at_odds(sources):
        raise BadSource(source, finding)
    return _told_apart([_read(source, seed, place) for place, source in enumerate(sources)])


def _read(source: DataSource, seed: int, place: int) -> Realised:
    options: SourceOptions = source.options
    try:
        kept, read, set_aside = _filter(source, options)
        if not kept:
            raise BadOption("no-rows", f"`{source.name}` has no rows{' that match `where`' if read else ''}", "path")
        rows = _draw(kept, options, random.Random(digest_json(["sample", seed, place])))
    except BadOption as error:
        raise BadSource(source, error.finding) from error
    return Realised(source.name, rows, read, set_aside, len(rows))


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


def _told_apart(found: list[Realised]) -> list[Realised]:
    """Ids unique over all sources: where two sources share a name or an id, each id says its source's place."""
    for one in found:
        _refuse_twice(one)
    names = {one.name for one in found}
    ids = {row.id for one in found for row in one.rows}
    if len(names) == len(found) and len(ids) == sum(len(one.rows) for one in found):
        return found
    return [
        replace(one, rows=[replace(row, id=f"{place}/{row.id}") for row in one.rows])
        for place, one in enumerate(found, 1)
    ]


def _refuse_twice(one: Realised) -> None:
    origins: dict[str, str] = {}
    for row in one.rows:
        if row.id in origins:
            message = f"{one.name}: {origins[row.id]} and {row.origin} have one id, `{row.id}`"
            raise BadInput(message, fix="each row needs an id of its own: leave one out, or take another column for it")
        origins[row.id] = row.origin


def _of_sources(found: Sequence[Realised], side: Side) -> list[Realised]:
    """What of each source is on a side."""
    here = {row.id for row in side.rows}
    dropped = {row.id for row in side.dropped}
    sides = []
    for one in found:
        rows = [row for row in one.rows if row.id in here]
        sides.append(replace(one, rows=rows, kept=len(rows), dropped=sum(row.id in dropped for row in one.rows)))
    return sides


def _mix(
    sources: Sequence[DataSource], found: Sequence[Realised], seed: int, every: Sequence[Realised]
) -> list[Realised]:
    """What is learnt of `found`, whose ids are no others' among `every` row, also those that are held back."""
    counts = [_passes(source, one) for source, one in zip(sources, found, strict=True)]
    if sources and sources[0].options.weight is not None:
        counts = _by_weight(sources, found, counts)
    mark = _mark(found, counts, every)
    return [_give(one, count, seed, place, mark) for place, (one, count) in enumerate(zip(found, counts, strict=True))]


def _passes(source: DataSource, one: Realised) -> int:
    """Rows that `epochs` passes give, the number taken as it is written: 0.1 is a tenth."""
    epochs = source.options.epochs
    count = round(Fraction(str(epochs)) * one.kept)
    if one.kept and not count:
        message = f"`epochs: {epochs:g}` leaves none of {one.kept} rows of `{one.name}`"
        raise BadSource(source, Finding("no-rows", message, "epochs"))
    return count


def _by_weight(sources: Sequence[DataSource], found: Sequence[Realised], most: Sequence[int]) -> list[int]:
    for source, one in zip(sources, found, strict=True):
        if not one.kept:
            message = f"the splits leave no row of `{one.name}` to be learnt, so it can have no share"
            raise BadSource(source, Finding("no-rows", message, "weight"))
    weights = [Fraction(str(source.options.weight)) for source in sources]
    unit = min(count / weight for count, weight in zip(most, weights, strict=True))  # rows for a weight of 1
    counts = [round(weight * unit) for weight in weights]
    scarce = found[min(range(len(found)), key=lambda place: most[place] / weights[place])]
    for source, one, count in zip(sources, found, counts, strict=True):
        if not count:
            message = f"`weight: {source.options.weight:g}` leaves none of {one.kept} rows of `{one.name}`"
            why = f"`{scarce.name}` is used up first, with {scarce.kept} rows: raise its `epochs`, or this weight"
            raise BadSource(source, Finding("no-rows", message, "weight", why))
    return counts


def _mark(found: Sequence[Realised], counts: Sequence[int], every: Sequence[Realised]) -> str:
    """What stands between a row's id and its copy's number: `#`, or as many as no row's own id has there."""
    ids = {row.id for one in every for row in one.rows}
    copied = [(one.rows, -(-count // one.kept)) for one, count in zip(found, counts, strict=True) if count > one.kept]
    mark = "#"
    while any(_copy(row, copy, mark).id in ids for rows, times in copied for copy in range(1, times) for row in rows):
        mark += "#"
    return mark


def _give(one: Realised, count: int, seed: int, place: int, mark: str) -> Realised:
    """`count` rows: whole copies of every row, then drawn ones for the rest; a copy's id says which it is."""
    if count == one.kept:
        return one
    rng = random.Random(digest_json(["copies", seed, place]))
    return replace(one, rows=list(_copies(one.rows, count, rng, mark)))


def _copies(rows: Sequence[Row], count: int, rng: random.Random, mark: str) -> Iterator[Row]:
    whole, rest = divmod(count, len(rows))
    for copy in range(whole):
        yield from (_copy(row, copy, mark) for row in rows)
    yield from (_copy(rows[index], whole, mark) for index in sorted(rng.sample(range(len(rows)), rest)))


def _copy(row: Row, copy: int, mark: str) -> Row:
    return row if copy == 0 else replace(row, id=f"{row.id}{mark}{copy + 1}")
