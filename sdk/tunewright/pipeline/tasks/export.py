"""export-<name>: what was trained, in one form that a client serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json, digest_tree
from tunewright.parts import Backend, Cap, Exporter
from tunewright.parts.exporter import Trained
from tunewright.pipeline.calibration import calibration
from tunewright.pipeline.forms import Opener, identity_of
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import RECORD, base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

FILES, FORM = "files", "form.json"


class Export(Task):
    """One exporter's output in `files/`, and how it is reopened in `form.json`.

    The port `rows`, of the prepare step whose rows were trained on, is there for an exporter that calibrates by them.
    """

    def __init__(self, exporter: Exporter, opener: Opener, seed: int) -> None:
        self.exporter, self.opener, self.seed = exporter, opener, seed

    def parts(self) -> tuple[Backend, ...]:
        return (self.exporter, self.opener.loader, self.opener.quantizer, self.opener.adapter)

    def settings(self) -> dict[str, Any]:
        drawn = {"seed": self.seed} if self.exporter.calibrates else {}
        return {"dtype": self.opener.dtype, **drawn}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        record, outcome, base = (
            inputs["model"].json(RECORD),
            inputs["trained"].json(OUTCOME),
            base_folder(inputs["model"]),
        )
        disk.make_folder(out / FILES)
        trained = Trained(
            saved=inputs["trained"].path / TRAINED,
            base=base,
            identity=record["identity"]["identity"],
            base_name=record["name"],
            engine=self.opener.engine.kind,
            tokenizer=self.opener.loader.tokenizer(base),
            adapts=Cap.ADAPTS in self.opener.adapter.offers(),
            whole=self.opener.whole,
            calibration=calibration(inputs["rows"], self.seed, context) if self.exporter.calibrates else None,
        )
        form = self.exporter.export(trained, out / FILES)
        size = sum(path.stat().st_size for path in (out / FILES).rglob("*") if path.is_file())
        about = {**asdict(form), "digest": outcome["digest"], "bytes": size}
        if form.dtype is not None:  # weights of its own: they are told apart by an identity of their own
            about["identity"] = _identity(out / FILES)
        disk.write(out / FORM, canonical_json(about))
        return {"bytes": size}


def _identity(files: Path) -> str:
    """Of a model's folder, its identity; of a form in another format, as GGUF, the digest of its files."""
    return identity_of(files) if any(files.glob("*.safetensors")) else digest_tree(files)
