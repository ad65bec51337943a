"""Where a base model comes from: it is pinned first, then fetched into one layout.

A complete source:

    import json
    import shutil
    from typing import Annotated

    from pydantic import Field
    from tunewright import Refused
    from tunewright.digest import digest_tree
    from tunewright.parts import ModelSource, Options, SpecPath
    from tunewright.parts.base import BadOption
    from tunewright.parts.model_source import Pin
    from tunewright.testing import check_model_source, tiny_world

    class FolderOptions(Options):
        kind: str = "folder"
        path: Annotated[SpecPath, Field(description="Folder with config, tokenizer, safetensors.")]

    class Folder(ModelSource[FolderOptions]):
        kind, Options = "folder", FolderOptions
        reads = frozenset({"path"})

        def pin(self):  # names exactly one model: it stands in the lock
            return Pin({"digest": digest_tree(self.options.path.path, self._files())})

        def config(self):
            try:
                return json.loads((self.options.path.path / "config.json").read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise BadOption("not-a-model", "no config.json that can be read", "path") from error

        def fetch(self, pin, out):
            for file in self._files():
                shutil.copyfile(file, out / file.name)
            if digest_tree(out) != pin.values["digest"]:
                raise Refused(f"`{self.options.path.written}` changed since it was pinned")

        def _files(self):  # never a pickle: reading one can run code
            self.config()
            kinds = (".json", ".jinja", ".safetensors")
            return sorted(file for file in self.options.path.path.iterdir() if file.suffix in kinds)

    def test_it_keeps_its_contract(tmp_path):
        check_model_source(Folder, {"path": tiny_world().base}, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from tunewright.parts.base import Backend, Json, O


class Published(NamedTuple):
    """Where anyone loads a model from: a repository of a hub, `org/name`, and its commit."""

    repo: str
    revision: str


class Pin(NamedTuple):
    """What names exactly one model: a commit, a sha256. Plain JSON, written into the lock.

    That of a model in a repository of a hub has `repo` and `commit`: whoever serves it elsewhere is told these.
    """

    values: Mapping[str, str]

    @property
    def published(self) -> Published | None:
        """None for a model that is in no repository."""
        repo, commit = self.values.get("repo"), self.values.get("commit")
        return Published(repo, commit) if repo and commit else None


class ModelSource(Backend[O]):
    """Pins a base model without fetching it, and fetches it into one layout."""

    part: ClassVar[str] = "model_source"

    @abstractmethod
    def pin(self) -> Pin:
        """Name exactly one model. May look at the network or a lock, never downloads weights."""

    def config(self) -> Mapping[str, Json] | None:
        """The model's config.json, without weights; None where it is not known before fetching."""
        return None

    @abstractmethod
    def fetch(self, pin: Pin, out: Path) -> None:
        """Fill the empty folder `out`: config.json, tokenizer files, chat template, *.safetensors, a LICENSE if known.

        Raises `Refused` where what came is not what the pin names.
        """

    @property
    def name(self) -> str:
        """What a person calls this model, in the report and the model card."""
        return self.kind

    @property
    def license(self) -> str:
        """SPDX id of the base's licence, or empty where the source does not know it."""
        return ""
