"""What parquet and the folders of `datasets` have in common: columns and rows of Arrow's record batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunewright.errors import MissingExtra
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright_files.values import Unreadable, row_of_values

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

AT_ONCE = 64  # rows that are Python objects at a time; as many stand in a head


@contextmanager
def arrow(backend: str, written: str) -> Iterator[Any]:
    """pyarrow, whose errors within become a `BadOption` about what the spec calls `written`. Raises `MissingExtra`."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra(backend, "train", error) from error
    try:
        yield pyarrow
    except (pyarrow.ArrowException, OSError) as error:
        message = f"`{written}` cannot be read: {' '.join(str(error).split())}"
        raise BadOption(
            "file-unreadable", message, "path", "write the file again: it is damaged or of another kind"
        ) from error


def columns_of(schema: pyarrow.Schema, name: str) -> tuple[str, ...]:
    """Columns that can be text. Those of bytes (images, sound) are left out: no text can be made of them."""
    names = list(schema.names)
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise BadOption("bad-header", f"`{name}` has two columns `{twice[0]}`", "path", "rename one of them")
    if "" in names:
        raise BadOption("bad-header", f"`{name}` has a column without a name", "path", "give it a name")
    found = tuple(field.name for field in schema if not _has_bytes(field.type))
    if not found:
        why = "no column that can be text: all hold bytes" if names else "no columns"
        raise BadOption("bad-header", f"`{name}` has {why}", "path")
    return found


def _has_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import BaseExtensionType, types

    if types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    if types.is_nested(kind):
        return any(_has_bytes(kind.field(place).type) for place in range(kind.num_fields))
    if isinstance(kind, BaseExtensionType):
        return kind.extension_name != "arrow.uuid" and _has_bytes(kind.storage_type)
    return "binary" in str(kind)


def rows_of(batches: Iterable[pyarrow.RecordBatch], columns: tuple[str, ...], name: str) -> Iterator[Row | Broken]:
    """`rows.parquet: row 17`, counted from 1 over all batches, a few rows at a time."""
    number = 0
    for batch in batches:
        kept = batch.select(list(columns))
        for start in range(0, kept.num_rows, AT_ONCE):
            for values in _values(kept.slice(start, AT_ONCE)):
                number += 1
                origin = f"{name}: row {number}"
                yield Broken(origin, values.why) if isinstance(values, Unreadable) else row_of_values(origin, values)


def _values(batch: pyarrow.RecordBatch) -> list[dict[str, Any] | Unreadable]:
    """Each row as Python's own values; where one cannot be, the others still are."""
    import pyarrow

    try:
        batch.validate(full=True)  # else an offset that lies would end the process, and bytes that are no text pass
        return list(batch.to_pylist(maps_as_pydicts="strict"))
    except (pyarrow.ArrowException, ValueError, KeyError) as error:
        if batch.num_rows == 1:
            return [Unreadable(" ".join(str(error).split()))]
        return [found for place in range(batch.num_rows) for found in _values(batch.slice(place, 1))]
