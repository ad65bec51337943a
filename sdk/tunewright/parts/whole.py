"""A base and what was trained on it, as one model: the way of every merge, between stages and for an export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.errors import Refused
from tunewright.parts.adapter import AdapterMethod, ModelDir
from tunewright.parts.base import Cap
from tunewright.parts.loader import Loader
from tunewright.parts.quantizer import Quantizer

Into = Literal["original", "dequantized"]
"""The base's own weights, or those that it held when it was trained on, quantized and unpacked."""
OURS = ("manifest.json",)  # of the cache, and no part of the model
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def copy_beside(base: Path, out: Path) -> None:
    """Copy the files of a base that are not its weights into `out`, which holds others: tokenizer, template, licence.

    A file that is there already, as a config.json, stays as it is.
    """
    for file in sorted(filter(Path.is_file, base.iterdir())):
        weights = any(file.match(pattern) for pattern in WEIGHTS)
        if not weights and file.name not in OURS and not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)


@dataclass(frozen=True)
class Whole:
    """The backends of a merge, and the type that the base was loaded in when it was trained on."""

    loader: Loader
    quantizer: Quantizer
    method: AdapterMethod
    dtype: str
    identify: Callable[[Path], str]
    """The identity of the model in a folder."""

    @property
    def trained_on(self) -> Into:
        """Which weights were trained on."""
        return "original" if Cap.FULLY_TRAINABLE in self.quantizer.offers() else "dequantized"

    def write(self, base: Path, identity: str, saved: Path, out: Path, dtype: str, into: Into = "original") -> None:
        """Write a whole model into the empty folder `out`: the merged weights, and the base's other files as they are.

        `identity` is that of the base that was trained on. Raises `Refused` where `base` is another, where `out` holds
        something, where the base's config.json tells of no model, or as `AdapterMethod.merge` does.
        """
        if any(out.iterdir()):
            raise Refused(f"{out.name} is not empty: what was merged before is not merged into again",
                          fix="give an empty folder")  # fmt: skip
        found = self.identify(base)
        if found != identity:
            raise Refused(
                f"the base in {base.name} ({found[:12]}) is not the one that was trained on ({identity[:12]})",
                fix="merge into the base that the training names; it is fetched anew by `run`",
            )
        if self._config(base).get("quantization_config"):
            raise Refused("the base is stored quantized: nothing can be added to its weights",
                          fix="take its unquantized weights")  # fmt: skip
        model = self.model(base)
        held = self.quantizer.held(model.modules, self.dtype) if into == "dequantized" else None
        self.method.merge(model._replace(held=held), saved, out, dtype)
        copy_beside(base, out)

    def model(self, base: Path) -> ModelDir:
        """A base by its folder, and its modules without their numbers: those of its whole weights, packed or not."""
        whole = {name: value for name, value in self._config(base).items() if name != "quantization_config"}
        return ModelDir(base, self.loader.outline(whole), self.dtype)

    def _config(self, base: Path) -> dict[str, Any]:
        try:
            return dict(json.loads((base / "config.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise Refused(f"{base.name}/config.json cannot be read: {error}", fix="fetch the model again") from error
