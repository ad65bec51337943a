"""merge-<stage>: what the stage before trained is folded into the base, which becomes the base of what follows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.handoff.verify import model_identity
from tunewright.parts import AdapterMethod, Backend, Loader, Quantizer
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import MODEL, RECORD, base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


class Merge(Task):
    """A whole model in `model/`, merged into the base's own weights: those before quantization, in the spec's dtype."""

    def __init__(self, loader: Loader, plain: Quantizer, adapter: AdapterMethod, dtype: str, after: str) -> None:
        self.loader, self.plain, self.adapter, self.dtype, self.after = loader, plain, adapter, dtype, after

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.plain, self.adapter)

    def settings(self) -> dict[str, Any]:
        return {"dtype": self.dtype}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base, trained = base_folder(inputs["model"]), inputs["trained"]
        folder = out / MODEL
        disk.make_folder(folder)
        context.emit({"event": "progress", "what": f"merging {self.after} into the base"})
        model = self.loader.model(base, self.plain, self.dtype, "infer")
        self.adapter.merge(model, trained.path / TRAINED, folder)
        for file in sorted(filter(Path.is_file, base.iterdir())):  # tokenizer, template, licence
            weights = any(file.match(pattern) for pattern in WEIGHTS)
            if not weights and not (folder / file.name).exists() and file.name != "manifest.json":
                shutil.copyfile(file, folder / file.name)
        identity = model_identity(folder)
        name = f"{inputs['model'].json(RECORD)['name']}+{self.after}"
        merged = {"after": self.after, "digest": trained.json(OUTCOME)["digest"]}
        disk.write(out / RECORD, canonical_json({"name": name, "merged": merged, "identity": identity}))
        return {"identity": identity["identity"]}
