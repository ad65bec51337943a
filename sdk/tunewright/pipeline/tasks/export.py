"""export-<name>: what was trained, in one form that a client serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json, digest_tree
from tunewright.handoff.bound import bind
from tunewright.parts import Backend, Cap, Exporter
from tunewright.parts.exporter import Trained
from tunewright.pipeline.calibration import calibration
from tunewright.pipeline.forms import Opener, identity_of
from tunewright.pipeline.saved import taken_up
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import RECORD, base_folder, published
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

FILES, FORM = "files", "form.json"
AS_TRAINED, STORED = "trained", "stored"
"""What a form that is put on the base is put on: the base as it was trained on, or as it lies in its files where these
are two models."""


class Export(Task):
    """One exporter's output in `files/`, and how it is reopened in `form.json`.

    The port `rows`, of the prepare step whose rows were trained on, is there for an exporter that calibrates by them.
    """

    version = 3

    def __init__(self, exporter: Exporter, opener: Opener, seed: int) -> None:
        self.exporter, self.opener, self.seed = exporter, opener, seed
        self.taken_up = taken_up(exporter)

    def parts(self) -> tuple[Backend, ...]:
        return (self.exporter, self.opener.loader, self.opener.quantizer, self.opener.adapter)

    def settings(self) -> dict[str, Any]:
        drawn = {"seed": self.seed} if self.exporter.calibrates or self.exporter.draws() else {}
        return {"dtype": self.opener.dtype, **drawn}

    def sources(self) -> Mapping[str, str]:
        return {field: saved.digest() for field, saved in self.taken_up.items()}

    def refuse_base(self, base: Artifact) -> None:
        """Where an adapter that it takes up was altered, or is of another base or quantization."""
        for saved in self.taken_up.values():
            saved.check(base.json(RECORD)["identity"], self.opener.quantizer)

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        record, outcome, base = (
            inputs["model"].json(RECORD),
            inputs["trained"].json(OUTCOME),
            base_folder(inputs["model"]),
        )
        self.refuse_base(inputs["model"])
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
            seed=self.seed,
            published=published(record),
        )
        form = self.exporter.export(trained, out / FILES)
        if form.attach:
            bind(out / FILES, trained.identity)  # one that was combined anew, too
        size = sum(path.stat().st_size for path in (out / FILES).rglob("*") if path.is_file())
        about = {**asdict(form), "digest": form.digest or outcome["digest"], "bytes": size}
        # a whole model that was computed anew has an identity of its own; else the tensors' digest tells what it is
        about["identity"] = about["digest"] if form.dtype is None else _identity(out / FILES)
        about["trained"] = form.dtype is None and form.digest is None
        # its client loads the base's files, and nothing packs them there as they were packed for the training
        unpacked = self.exporter.on_stored and form.attach and not self.opener.quantizer.as_stored()
        about["base"] = STORED if unpacked else AS_TRAINED
        about["taken_up"] = {field: saved.about() for field, saved in self.taken_up.items()}
        disk.write(out / FORM, canonical_json(about))
        return {"bytes": size}


def _identity(files: Path) -> str:
    """Of a model's folder, its identity; of a form in another format, as GGUF, the digest of its files."""
    return identity_of(files) if any(files.glob("*.safetensors")) else digest_tree(files)
