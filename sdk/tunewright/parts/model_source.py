"""Where a base model comes from: it is pinned first, then fetched into one layout.

A complete source:

    class Folder(ModelSource):
        kind, Options = "folder", FolderOptions

        def pin(self):
            return Pin({"digest": digest_tree(self.options.path.path)})

        def config(self):
            return json.loads((self.options.path.path / "config.json").read_text())

        def fetch(self, pin, out):
            shutil.copytree(self.options.path.path, out, dirs_exist_ok=True)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from tunewright.parts.base import Backend, Json, O


class Pin(NamedTuple):
    """What names exactly one model: a commit, a sha256. Plain JSON, written into the lock."""

    values: Mapping[str, str]


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
