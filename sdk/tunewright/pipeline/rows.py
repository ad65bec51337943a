"""Which rows a step reads: those that are learnt and chosen by, and those that claims are made on.

Both know everything that decides over them, so that a step that reads them can put it into its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.data.rows import Realised, draws, realise_all, realise_parts
from tunewright.data.same import Sameness
from tunewright.errors import BadInput
from tunewright.parts import Backend, DataSource, PromptFormat
from tunewright.parts.data_source import Row
from tunewright.parts.evaluator import TestRow
from tunewright.parts.prompt_format import AnyExample
from tunewright.resolve.resolved import Claims, Resolved, Training
from tunewright.spec.model import Split


class Learnt(NamedTuple):
    """The rows of one training, by source: what is learnt, and what chooses among checkpoints."""

    train: list[Realised]
    validation: list[Realised]


class TrainingRows:
    """The rows of one training."""

    def __init__(self, training: Training, seed: int) -> None:
        self.format, self.train, self.validation = training.format, training.train, training.validation
        self.test, self.seed, self.same = training.test, seed, Sameness(training.parted_by)

    def parts(self) -> tuple[Backend, ...]:
        """The backends that make them."""
        held = () if isinstance(self.validation, Split) else self.validation
        return (*_others(self.same, self.format), self.format, *self.train, *held)

    def settings(self) -> dict[str, Any]:
        """What else decides over them: the seed only where it has a say."""
        held = self.validation
        sources = self.train if isinstance(held, Split) else (*self.train, *held)
        drawn = isinstance(held, Split) or self.test is not None or any(draws(source) for source in sources)
        return {
            "seed": self.seed if drawn else None,
            "validation": held.model_dump(mode="json") if isinstance(held, Split) else len(held),
            "test": self.test and self.test.model_dump(mode="json"),
            **_parted_by(self.same, held, self.test),
        }

    def digests(self) -> dict[str, str]:
        """What the sources hold."""
        held = () if isinstance(self.validation, Split) else self.validation
        return {**_digests("train", self.train), **_digests("validation", held)}

    def realise(self) -> Learnt:
        """Read, draw, split and mix. Raises `BadInput` naming the row, `BadSource` naming the source's option."""
        split = self.validation if isinstance(self.validation, Split) else None
        sides = realise_parts(self.train, self.seed, self.same, split, self.test)
        if isinstance(self.validation, Split):
            return Learnt(sides.train, sides.validation)
        return Learnt(sides.train, realise_all(self.validation, self.seed) if self.validation else [])


class ClaimRows:
    """Rows that claims are made on."""

    def __init__(self, claims: Claims, seed: int) -> None:
        self.format, self.sources, self.split, self.seed = claims.format, claims.sources, claims.split, seed
        self.same = Sameness(claims.parted_by)

    def parts(self) -> tuple[Backend, ...]:
        """The backends that make them."""
        return (*_others(self.same, self.format), self.format, *self.sources)

    def settings(self) -> dict[str, Any]:
        """What else decides over them: the seed only where it has a say."""
        drawn = self.split is not None or any(draws(source) for source in self.sources)
        return {
            "seed": self.seed if drawn else None,
            "split": self.split and self.split.model_dump(mode="json"),
            **_parted_by(self.same, self.split),
        }

    def digests(self) -> dict[str, str]:
        """What the sources hold."""
        return _digests("test", self.sources)

    def realise(self) -> list[Realised]:
        """Read and draw. Raises as `TrainingRows.realise`."""
        if self.split is not None:
            return realise_parts(self.sources, self.seed, self.same, test=self.split).test
        return realise_all(self.sources, self.seed)

    def examples(self) -> list[TestRow]:
        """The rows as examples."""
        return self.examples_of(self.realise())

    def examples_of(self, realised: Sequence[Realised]) -> list[TestRow]:
        """What was realised, as examples."""
        return test_rows(self.format, rows_of(realised))


class Claimed(NamedTuple):
    """The rows of some claims, by source. `name` is what a person calls them: `test`, or `test of <evaluation>`."""

    name: str
    claims: Claims
    rows: list[Realised]


class AllRows(NamedTuple):
    """Every row of a spec: what each training learns and chooses by, and what claims are made on."""

    learnt: list[tuple[Training, Learnt]]
    claimed: list[Claimed]
    known_digests: dict[Any, Any]

    def same(self, judged: Training | Claims, learnt: Training) -> Sameness:
        """By which validation rows of one training, or rows that claims are made on, are one with rows that are learnt.

        They are as the split parts them that they are taken out by, and as what is learnt of them reads them: an
        evaluation that asks for more than was taught makes no learnt row a new one. But a text that is learnt without
        its answer does not teach it. Each row is digested once, however often they are compared.
        """
        answers = learnt.format.makes != "text" or judged.format.makes == "text"
        formats = (*judged.parted_by, *([learnt.format] if answers else []))
        split = judged.validation if isinstance(judged, Training) else judged.split
        return Sameness(tuple(dict.fromkeys(formats)), known_digests=self.known_digests).beside(split)


def read_all(resolved: Resolved) -> AllRows:
    """Read every row. Raises as `TrainingRows.realise`."""
    seed, shared = resolved.spec.seed, resolved.test.sources
    own = {f"test of {name}": one for name, one in resolved.asked.items() if one.sources not in (shared, ())}
    return AllRows(
        [(training, TrainingRows(training, seed).realise()) for training in resolved.trainings],
        [Claimed(name, one, ClaimRows(one, seed).realise()) for name, one in {"test": resolved.test, **own}.items()],
        {},
    )


def _parted_by(same: Sameness, *held: object) -> dict[str, Any]:
    """Which rows are equal decides over a split, and over nothing else."""
    read = [[form.kind, form.settings()] for form in same.formats]
    return {"equal_as_read_by": read} if any(isinstance(one, Split) for one in held) else {}


def _others(same: Sameness, own: PromptFormat) -> list[PromptFormat]:
    """The formats of other trainings that decide over a split of these rows too; none where there is no split."""
    return [form for form in same.formats if form is not own]


def _digests(name: str, sources: Sequence[DataSource]) -> dict[str, str]:
    return {f"{name}.{place} {source.name}": source.digest() for place, source in enumerate(sources)}


def rows_of(found: Sequence[Realised]) -> list[Row]:
    """The rows of all sources, in their order."""
    return [row for one in found for row in one.rows]


def test_rows(form: PromptFormat, rows: Sequence[Row]) -> list[TestRow]:
    """Rows as an evaluator gets them. Raises as `example_of`."""
    return [TestRow(row.id, row.origin, example_of(form, row), row.group, row.fields) for row in rows]


def once_each(found: Sequence[Realised]) -> list[Row]:
    """The rows of all sources without the copies that `epochs` and weights make of them."""
    return list({row.origin: row for row in rows_of(found)}.values())


def counted(found: Sequence[Realised]) -> list[Mapping[str, Any]]:
    """What a report says of each source."""
    return [{"name": one.name, "rows": len(one.rows), "set_aside": len(one.set_aside)} for one in found]


def example_of(form: PromptFormat, row: Row) -> AnyExample:
    """A row's example; what is wrong with a row names where it stands."""
    try:
        example = form.example(row.fields)
    except BadInput as error:
        raise BadInput(f"{row.origin}: {error.message}", fix=error.fix) from error
    except KeyError as error:  # jsonl rows need not have the columns of the first
        raise BadInput(f"{row.origin}: the row has no column {error}", fix="mend the row or leave it out") from error
    if not example.answer.strip():
        raise BadInput(f"{row.origin}: the answer is empty", fix="mend the row or leave it out")
    return example
