"""merge-<stage>: what the stage before trained is folded into the base, which becomes the base of what follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.handoff.verify import model_identity
from tunewright.parts import Backend
from tunewright.parts.whole import Whole
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import MODEL, RECORD, base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact


class Merge(Task):
    """A whole model in `model/`, merged into the base's own weights: those before quantization, in the spec's dtype."""

    def __init__(self, whole: Whole, after: str) -> None:
        self.whole, self.after = whole, after

    def parts(self) -> tuple[Backend, ...]:
        return (self.whole.loader, self.whole.method)

    def settings(self) -> dict[str, Any]:
        return {"dtype": self.whole.dtype}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base, trained = base_folder(inputs["model"]), inputs["trained"]
        folder = out / MODEL
        disk.make_folder(folder)
        context.emit({"event": "progress", "what": f"merging {self.after} into the base"})
        record = inputs["model"].json(RECORD)
        self.whole.write(base, record["identity"]["identity"], trained.path / TRAINED, folder, self.whole.dtype)
        identity = model_identity(folder)
        name = f"{record['name']}+{self.after}"
        merged = {"after": self.after, "digest": trained.json(OUTCOME)["digest"]}
        disk.write(out / RECORD, canonical_json({"name": name, "merged": merged, "identity": identity}))
        return {"identity": identity["identity"]}
