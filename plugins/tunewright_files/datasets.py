"""`datasets`: a folder that `save_to_disk` of Hugging Face's `datasets` wrote, read where it lies.

It holds Arrow streams and small JSON files that name them, and pyarrow alone reads these: the library `datasets` would
take a second to import, write in its cache, and know of a hub. What it would give, `load_from_disk` and then a row, is
what a row here is; only columns of bytes (images, sound) are left out. A ClassLabel is its number, there as here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, TypeGuard

from pydantic import Field

from tunewright.digest import digest_file, digest_json
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption, Head
from tunewright.parts.data_source import Broken, DataSource, Row, SourceOptions
from tunewright.spec.suggest import did_you_mean
from tunewright_files.arrow import AT_ONCE, arrow, columns_of, rows_of
from tunewright_files.file import readable

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

SPLITS, STATE = "dataset_dict.json", "state.json"


class DatasetsOptions(SourceOptions):
    """Options of a datasets source."""

    kind: str = "datasets"
    path: Annotated[SpecPath, Field(description="A folder written by `save_to_disk`, relative to the spec.")]
    split: Annotated[
        str | None, Field(min_length=1, description="Which split, where the folder holds several (a DatasetDict).")
    ] = None


class DatasetsFolder(DataSource[DatasetsOptions]):
    """Rows of a saved dataset (`faq/train: row 17`, counted from 1); nothing is fetched."""

    kind = "datasets"
    Options: ClassVar = DatasetsOptions
    reads = frozenset({"path", "split"})
    extra = "train"
    libraries = ("pyarrow",)

    @property
    def name(self) -> str:
        folder = self.options.path.path.name
        return f"{folder}/{self.options.split}" if self.options.split else folder

    def head(self) -> Head:
        """The schema and the first rows of the first file; pages of it that these lie on are read, no more."""
        first = self._files()[0]
        with (
            arrow("data_source/datasets", self.options.path.written) as pyarrow,
            pyarrow.memory_map(str(first)) as opened,
            pyarrow.ipc.open_stream(opened) as stream,
        ):
            columns = columns_of(stream.schema, self.name)
            rows = rows_of(stream, columns, self.name)
            return Head(columns, tuple(row.fields for row in islice(rows, AT_ONCE) if isinstance(row, Row)))

    def digest(self) -> str:
        """Of the files that hold rows, in their order; not of `state.json`, which differs from saving to saving."""
        return digest_json([digest_file(path) for path in self._files()])

    def rows(self) -> Iterator[Row | Broken]:
        files = self._files()
        with arrow("data_source/datasets", self.options.path.written) as pyarrow:
            with pyarrow.OSFile(str(files[0])) as opened, pyarrow.ipc.open_stream(opened) as stream:
                columns = columns_of(stream.schema, self.name)
            yield from rows_of(self._batches(pyarrow, files), columns, self.name)

    def _batches(self, pyarrow: Any, files: list[Path]) -> Iterator[pyarrow.RecordBatch]:
        for path in files:
            with pyarrow.OSFile(str(path)) as opened, pyarrow.ipc.open_stream(opened) as stream:
                yield from stream

    def _files(self) -> list[Path]:
        """The files that hold the rows, all there. Raises `BadOption`."""
        folder = self._folder()
        state = self._read(folder / STATE)
        if state.get("_indices_data_files"):
            message = f"`{self.name}` is a selection of rows as an old release of `datasets` saved it"
            raise BadOption("file-unreadable", message, "path", "load it and save it again by a release of today")
        named = state.get("_data_files")
        if named == []:
            raise BadOption("no-rows", f"`{self.name}` holds no rows", "path")
        files = (
            [one.get("filename") if isinstance(one, dict) else None for one in named] if isinstance(named, list) else []
        )
        if not _are_names(files):
            self._damaged(STATE, "it names no files of rows")
        return [self._there(folder / name) for name in files]

    def _folder(self) -> Path:
        """The folder of the one dataset that is meant."""
        folder, split, written = self.options.path.path, self.options.split, self.options.path.written
        if not folder.exists():
            raise BadOption("file-missing", f"there is no folder `{written}`", "path")
        if (folder / SPLITS).is_file():
            return folder / self._split(self._read(folder / SPLITS).get("splits"))
        if not (folder / STATE).is_file():
            message = f"`{written}` is no folder that `save_to_disk` wrote: it has no `{STATE}` and no `{SPLITS}`"
            fix = "save the dataset by `dataset.save_to_disk(…)`; one file is `csv`, `json`, `jsonl` or `parquet`"
            raise BadOption("file-unreadable", message, "path", fix)
        if split is not None:
            message = f"`{written}` is one dataset, without splits"
            raise BadOption("bad-value", message, "split", "leave `split` out")
        return folder

    def _split(self, splits: Any) -> str:
        if not _are_names(splits):
            self._damaged(SPLITS, "it names no splits")
        listed, asked = ", ".join(f"`{split}`" for split in splits), self.options.split
        if asked is None:
            message = f"`{self.name}` holds splits: {listed}"
            raise BadOption("bad-value", message, "path", f"say which: `split: {splits[0]}`")
        if asked not in splits:
            message = f"`{self.options.path.written}` has no split `{asked}`"
            raise BadOption("bad-value", message, "split", did_you_mean(asked, splits))
        return asked

    def _read(self, path: Path) -> dict[str, Any]:
        """One of the JSON files that say what the others are."""
        data = self._there(path).read_bytes()
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self._damaged(path.name, "it is not a JSON object")
        return found

    def _there(self, path: Path) -> Path:
        """A file of the folder, once it is known to be there."""
        root = self.options.path
        return readable(path, f"{root.written}/{path.relative_to(root.path).as_posix()}")

    def _damaged(self, name: str, why: str) -> NoReturn:
        message = f"`{name}` of `{self.options.path.written}` cannot be used: {why}"
        raise BadOption("file-unreadable", message, "path", "save the dataset again")


def _are_names(value: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of names of one folder: one that leads out of it is none that `datasets` wrote."""
    return isinstance(value, list) and bool(value) and all(isinstance(n, str) and Path(n).name == n for n in value)
