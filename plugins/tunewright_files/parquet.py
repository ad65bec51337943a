"""`parquet`: rows of one parquet file, read by pyarrow a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tunewright.parts import SpecPath
from tunewright.parts.data_source import Broken, Row
from tunewright_files.arrow import AT_ONCE, arrow, columns_of, rows_of
from tunewright_files.file import FileOptions, FileSource, Head

if TYPE_CHECKING:
    import pyarrow.parquet  # type: ignore[import-untyped]

BUFFER = 64 * 1024  # bytes of a column that are read at once; without it a row group's whole column


class ParquetOptions(FileOptions):
    """Options of a parquet source."""

    kind: str = "parquet"
    path: Annotated[SpecPath, Field(description="The parquet file, relative to the spec that names it.")]


class Parquet(FileSource):
    """Rows of a parquet file (`rows.parquet: row 17`, counted from 1); lists and structs stay lists and mappings."""

    kind = "parquet"
    Options: ClassVar = ParquetOptions
    extra = "train"
    libraries = ("pyarrow",)

    def head(self) -> Head:
        """Columns from the footer and the first rows. A footer stands at the end: no rule of 64 KiB can hold."""
        path = self._readable()
        with arrow("data_source/parquet", self.options.path.written) as pyarrow, pyarrow.OSFile(str(path)) as opened:
            file = self._file(opened)
            columns = columns_of(file.schema_arrow, self.name)
            first = next(file.iter_batches(AT_ONCE, columns=list(columns), use_threads=False), None)
            rows = rows_of([] if first is None else [first], columns, self.name)
            return Head(columns, tuple(row.fields for row in islice(rows, AT_ONCE) if isinstance(row, Row)))

    def rows(self) -> Iterator[Row | Broken]:
        path = self._readable()
        with arrow("data_source/parquet", self.options.path.written) as pyarrow, pyarrow.OSFile(str(path)) as opened:
            file = self._file(opened)
            columns = columns_of(file.schema_arrow, self.name)
            batches = file.iter_batches(AT_ONCE, columns=list(columns), use_threads=False)
            yield from rows_of(batches, columns, self.name)

    def _file(self, opened: object) -> pyarrow.parquet.ParquetFile:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(opened, buffer_size=BUFFER, pre_buffer=False)
