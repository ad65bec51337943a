"""`adapter`: what was trained as PEFT and vLLM lay it out, with the tokenizer; after full tuning, the whole model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from tunewright.errors import Refused
from tunewright.parts import Exporter
from tunewright.parts.exporter import ExporterOptions, Form, Trained
from tunewright_transformers.layout import TEMPLATE, tokenizer_files

ADAPTER_CONFIG = "adapter_config.json"


class AdapterExportOptions(ExporterOptions):
    """Options of the trained form: none beyond its name."""

    kind: str = "adapter"

    @field_validator("engine")
    @classmethod
    def _reference(cls, value: object) -> object:
        if value is not None:
            raise ValueError("the trained form is what others are compared with: give `engine` to another export")
        return value


class AdapterExporter(Exporter[AdapterExportOptions]):
    """The form that is always exported."""

    kind = "adapter"
    Options: ClassVar = AdapterExportOptions
    attaches = True

    def export(self, trained: Trained, out: Path) -> Form:
        """Copies what was saved and the base's own tokenizer files, byte for byte."""
        for file in filter(Path.is_file, trained.saved.iterdir()):
            shutil.copyfile(file, out / file.name)
        complete(trained, out)
        return Form(engine=trained.engine, attach=trained.adapts, speaks=True)


def complete(trained: Trained, out: Path) -> None:
    """Beside what is in `out`, put the base's tokenizer files and template; an adapter there gets the base's name."""
    for file in tokenizer_files(trained.base):
        shutil.copyfile(file, out / file.name)
    if not (out / TEMPLATE).is_file() and trained.tokenizer.template:
        (out / TEMPLATE).write_text(trained.tokenizer.template, "utf-8")  # it stood in tokenizer_config.json
    if (out / ADAPTER_CONFIG).is_file():
        _name_base(out / ADAPTER_CONFIG, trained.base_name)


def _name_base(path: Path, base_name: str) -> None:
    """vLLM takes an adapter for a base only where the names are equal."""
    try:
        config = json.loads(path.read_text("utf-8"))
        config["base_model_name_or_path"] = base_name
    except (ValueError, TypeError) as error:
        raise Refused(f"the saved {path.name} is damaged: {error}", fix="train again: nothing is exported") from error
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
