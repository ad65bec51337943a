"""`local`: a base in a folder of this machine, in the layout of transformers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.digest import digest_tree
from tunewright.errors import Refused
from tunewright.parts import Facts, Finding, ModelSource, Options, SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.model_source import Pin
from tunewright_transformers.layout import INDEX, files_of
from tunewright_transformers.whole import check_shards, check_weights, read_config


class LocalOptions(Options):
    """Options of a base in a folder."""

    kind: str = "local"
    path: Annotated[SpecPath, Field(description="Folder with config.json, tokenizer and safetensors.")]
    license: Annotated[str, Field(description="SPDX id of the model's licence.")] = ""


class LocalSource(ModelSource[LocalOptions]):
    """Takes the files of a model, and nothing else, from a folder. Pickled weights are refused."""

    kind = "local"
    Options: ClassVar = LocalOptions
    reads = frozenset({"path", "license"})

    @property
    def folder(self) -> Path:
        return self.options.path.path

    def check(self, facts: Facts) -> Iterable[Finding]:
        """The first thing that keeps the folder from being a model."""
        try:
            self._files()
        except BadOption as error:
            yield error.finding

    def pin(self) -> Pin:
        """Digest of the model's files; other files in the folder do not count. Raises `BadOption`."""
        return Pin({"digest": digest_tree(self.folder, self._files())})

    def config(self) -> Mapping[str, Any] | None:
        """The folder's config.json. Raises `BadOption` where it is missing or names no model type."""
        try:
            text = (self.folder / "config.json").read_bytes()
        except OSError as error:
            message = f"`{self.folder.name}` has no config.json that can be read"
            raise BadOption("not-a-model", message, "path") from error
        return read_config(self.folder.name, text, "path")

    def fetch(self, pin: Pin, out: Path) -> None:
        """Copies, so that a later change of the folder changes no cache. Raises `Refused` where it changed already."""
        for file in self._files():
            shutil.copyfile(file, out / file.name)
        if digest_tree(out) != pin.values["digest"]:
            raise Refused(f"`{self.options.path.written}` changed since it was pinned", fix="run again")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def license(self) -> str:
        return self.options.license

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            raise BadOption("file-missing", f"there is no folder `{self.options.path.written}`", "path")
        self.config()
        names = {path.name for path in self.folder.iterdir() if path.is_file()}
        check_weights(self.folder.name, names, "path")
        check_shards(self.folder.name, names, self.folder / INDEX, "path")
        return files_of(self.folder)
