"""`local`: a base in a folder of this machine, in the layout of transformers."""

from __future__ import annotations

import json
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
from tunewright_transformers.layout import INDEX, PICKLES, WEIGHTS, files_of


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
        """The folder's config.json. Raises `BadOption`."""
        return _config(self.folder)

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
        _config(self.folder)
        files = files_of(self.folder)
        _check_weights(self.folder, files)
        return files


def _config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises `BadOption` where it is missing or names no model type."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except OSError as error:
        raise BadOption("not-a-model", f"`{folder.name}` has no config.json that can be read", "path") from error
    except ValueError as error:
        raise BadOption("not-a-model", f"`{folder.name}/config.json` is not JSON: {error}", "path") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise BadOption("not-a-model", f"`{folder.name}/config.json` names no `model_type`", "path")
    return config


def _check_weights(folder: Path, files: list[Path]) -> None:
    names = {file.name for file in files}
    if not any(file.match(WEIGHTS) for file in files):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            message = f"`{folder.name}` has its weights as a pickle (`{pickles[0]}`), which runs code when it is read"
            raise BadOption("pickle-weights", message, "path", "convert it to safetensors where you trust it")
        raise BadOption("not-a-model", f"`{folder.name}` has no *.safetensors", "path")
    lacking = sorted(_shards(folder / INDEX) - names)
    if lacking:
        raise BadOption("not-a-model", f"`{folder.name}` lacks the shard `{lacking[0]}`", "path")


def _shards(index: Path) -> set[str]:
    """The files that an index names; none where there is no index, as with a model in one file."""
    if not index.is_file():
        return set()
    try:
        return set(map(str, json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadOption("not-a-model", f"`{index.parent.name}/{index.name}` names no shards", "path") from error
