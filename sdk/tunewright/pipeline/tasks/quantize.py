"""quantize: the base is packed once, by rows that are trained on; everything after stands on what was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import Refused
from tunewright.handoff.verify import model_identity
from tunewright.parts import Backend, Facts, Loader, Quantizer
from tunewright.parts.adapter import ModelDir
from tunewright.parts.quantizer import stored
from tunewright.parts.whole import copy_beside
from tunewright.pipeline.calibration import calibration
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import MODEL, RECORD, base_config, base_folder
from tunewright.store import disk
from tunewright.store.publish import Artifact

QUANTIZE = "quantize"
"""The step's name."""


class Quantize(Task):
    """A whole base in `model/`, packed by a quantizer that makes one; a base that is packed already passes through."""

    def __init__(self, loader: Loader, quantizer: Quantizer, dtype: str, seed: int) -> None:
        self.loader, self.quantizer, self.dtype, self.seed = loader, quantizer, dtype, seed

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.quantizer)

    def settings(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "seed": self.seed}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        record, config = inputs["model"].json(RECORD), base_config(inputs["model"])
        if stored(config):
            self._refuse_other(config)
            disk.write(out / RECORD, canonical_json(record))
            return {"made": False, "identity": record["identity"]["identity"]}
        kind, base, folder = self.quantizer.kind, base_folder(inputs["model"]), out / MODEL
        disk.make_folder(folder)
        context.emit({"event": "progress", "what": f"packing the base by {kind}"})
        model = ModelDir(base, self.loader.outline(config or {}), self.dtype)
        self.quantizer.make(model, calibration(inputs["rows"], self.seed, context), folder)
        copy_beside(base, folder)
        identity = model_identity(folder)
        about = {"name": f"{record['name']}+{kind}", "quantized": {"kind": kind}, "identity": identity}
        disk.write(out / RECORD, canonical_json(about))
        return {"made": True, "identity": identity["identity"]}

    def _refuse_other(self, config: Mapping[str, Any] | None) -> None:
        """What `plan` could not see of a base that it did not know yet. Raises `Refused`."""
        for finding in self.quantizer.check(Facts(model_config=config)):
            raise Refused(finding.message, fix=finding.suggestion)
