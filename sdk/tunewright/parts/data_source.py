"""Where rows come from. A source reads; `where`, `sample`, `limit` and `on_error` are the core's.

A complete source:

    class Lines(DataSource):
        kind, Options = "lines", LinesOptions          # LinesOptions(SourceOptions): path: SpecPath
        reads = frozenset({"path"})

        def head(self):
            with self.options.path.path.open() as file:
                return Head(("text",), ({"text": file.readline().rstrip()},))

        def digest(self):
            return digest_file(self.options.path.path)

        def rows(self):
            with self.options.path.path.open() as file:
                for number, line in enumerate(file, 1):
                    yield Row(id=f"lines:{number}", origin=f"lines:{number}", fields={"text": line.rstrip()})
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from tunewright.parts.base import Backend, Head, Json, O, Options

Scalar = str | int | float | bool


class SourceOptions(Options):
    """The fields of every source that the core itself reads."""

    where: Annotated[
        dict[str, Scalar | list[Scalar]],
        Field(description="Keep the rows whose column equals the value, or one of the values."),
    ] = {}
    sample: Annotated[PositiveInt | None, Field(description="Draw N rows by the spec's seed.")] = None
    limit: Annotated[PositiveInt | None, Field(description="Take the first N rows; files are often sorted.")] = None
    weight: Annotated[float, Field(gt=0, description="How often a row of this source is drawn, against 1.")] = 1.0
    on_error: Annotated[
        Literal["stop", "set_aside"], Field(description="A broken row stops the run, or is set aside and counted.")
    ] = "stop"

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
