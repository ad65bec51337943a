r"""Where rows come from. A source reads; `where`, `sample`, `limit`, `epochs`, `weight` and `on_error` are the core's.

A complete source, one row a line of a text file:

    from typing import Annotated

    from pydantic import Field
    from tunewright.digest import digest_file
    from tunewright.parts import DataSource, SpecPath
    from tunewright.parts.base import BadOption, Head
    from tunewright.parts.data_source import Broken, Row, SourceOptions
    from tunewright.testing import check_data_source

    class LinesOptions(SourceOptions):
        kind: str = "lines"
        path: Annotated[SpecPath, Field(description="The file, relative to the spec.")]

    class Lines(DataSource[LinesOptions]):
        kind, Options = "lines", LinesOptions
        reads = frozenset({"path"})

        def head(self):
            with self._open() as file:
                lines = file.read(64 * 1024).split(b"\n")
            lines.pop()  # cut in two, or empty
            found = [self._row(number, line) for number, line in enumerate(lines, 1)]
            return Head(("text",), tuple(row.fields for row in found if isinstance(row, Row)))

        def digest(self):
            self._open().close()  # says what is wrong with the file, if anything is
            return digest_file(self.options.path.path)

        def rows(self):
            with self._open() as file:
                for number, line in enumerate(file, 1):
                    yield self._row(number, line.removesuffix(b"\n"))

        def _open(self):
            try:
                return self.options.path.path.open("rb")
            except OSError as error:
                message = f"`{self.options.path.written}` cannot be read: {error.strerror}"
                raise BadOption("file-unreadable", message, "path") from error

        def _row(self, number, line):
            origin = f"{self.options.path.path.name}:{number}"  # where a person finds it
            try:
                return Row(origin, origin, {"text": line.decode("utf-8")})
            except UnicodeDecodeError:
                return Broken(origin, "not UTF-8")  # the core stops, or sets it aside

    def test_it_keeps_its_contract(tmp_path):
        file = tmp_path / "rows.txt"
        file.write_text("where is my parcel\nthe pump is broken\n")
        check_data_source(Lines, {"path": file}, folder=tmp_path / "kit")
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from tunewright.parts.base import Backend, Finding, Head, Json, O, Options

Scalar = str | int | float | bool


def reads(value: Json) -> str:
    """How a value reads in a csv: a `true` of YAML or JSON is the text `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class SourceOptions(Options):
    """The fields of every source that the core itself reads."""

    where: Annotated[
        dict[str, Scalar | list[Scalar]],
        Field(description="Keep the rows whose column equals the value, or one of the values."),
    ] = {}
    sample: Annotated[PositiveInt | None, Field(description="Draw N rows by the spec's seed.")] = None
    limit: Annotated[PositiveInt | None, Field(description="Take the first N rows; files are often sorted.")] = None
    epochs: Annotated[
        float,
        Field(gt=0, description="Passes over the rows in one epoch of the mixture; a fraction is drawn."),
    ] = 1.0
    weight: Annotated[
        float | None,
        Field(gt=0, description="Share of the mixture's rows, relative to the other sources' weights; all have one."),
    ] = None
    on_error: Annotated[
        Literal["stop", "set_aside"], Field(description="A broken row stops the run, or is set aside and counted.")
    ] = "stop"

    def wanted(self) -> dict[str, set[str]]:
        """The values of `where` by column, as they read in a csv."""
        return {c: set(map(reads, v if isinstance(v, list) else [v])) for c, v in self.where.items()}

    def keeps(self, fields: Mapping[str, Json]) -> bool:
        """Whether `where` keeps a row."""
        return all(reads(fields.get(column)) in values for column, values in self.wanted().items())

    @model_validator(mode="after")
    def _one_of_sample_and_limit(self) -> SourceOptions:
        if self.sample is not None and self.limit is not None:
            raise ValueError("`sample` draws rows and `limit` takes the first ones: choose one")
        return self


@dataclass(frozen=True)
class Row:
    """One row as it was read. `origin` is where a person finds it: `train.csv:17`, the line on which the row begins."""

    id: str
    origin: str
    fields: Mapping[str, Json]
    group: str | None = None


class Broken(NamedTuple):
    """A row that could not be read, and why; the core stops or sets it aside, as the spec says."""

    origin: str
    why: str


class DataSource(Backend[O]):
    """Reads rows. Raises `BadInput` where the file is missing or not of its kind."""

    part: ClassVar[str] = "data_source"

    @abstractmethod
    def head(self) -> Head:
        """Columns and first rows; reads at most 64 KiB."""

    @abstractmethod
    def digest(self) -> str:
        """Digest of the content, never of a modification time."""

    @abstractmethod
    def rows(self) -> Iterator[Row | Broken]:
        """Every row in the source's order."""

    @property
    def name(self) -> str:
        """What a person calls this source: a file's name."""
        return self.kind


def weights_at_odds(sources: Sequence[DataSource]) -> Iterator[tuple[DataSource, Finding]]:
    """What is wrong between the weights of one list of sources, and with which source: seen without reading a row.

    A weight is a share among several, so it says nothing beside sources without one, nor alone.
    """
    weighted = [source for source in sources if source.options.weight is not None]
    if not weighted:
        return
    if len(sources) == 1:
        message = f"the weight does nothing: `{sources[0].name}` is the only source of its list"
        yield sources[0], Finding("bad-value", message, "weight", "remove it; `epochs` says how often rows are given")
    for source in sources:
        if source.options.weight is None:
            message = f"`{source.name}` has no weight, `{weighted[0].name}` in the same list has one"
            yield source, Finding("bad-value", message, "weight", "give every source of the list a weight, or none")
