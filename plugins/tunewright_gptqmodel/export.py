"""`gptq` and `awq`: the merged model, packed by rows that it was trained on, for an engine that serves few bits.

What was trained is merged first, tensor by tensor, as `merged` does it; the merged model is then packed whole.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tunewright.errors import Refused
from tunewright.parts import Facts, Finding
from tunewright.parts.base import Json
from tunewright.parts.exporter import Form, Trained
from tunewright.parts.quantizer import stored
from tunewright.parts.whole import copy_beside
from tunewright_gptqmodel import library, trials
from tunewright_gptqmodel.awq import Awq, AwqOptions
from tunewright_gptqmodel.calibrated import MAKING, Calibrated
from tunewright_gptqmodel.gptq import Gptq, GptqOptions
from tunewright_transformers.merged import MergedExporter, MergedOptions


class PackedExporter(MergedExporter):
    """A whole model in few bits."""

    extra = library.EXTRA
    libraries = ("torch", "safetensors", *Calibrated.libraries)
    calibrates = True
    quantizer: ClassVar[type[Calibrated[Any]]]
    """The quantizer that packs it, and opens it again."""

    def lacking(self) -> str | None:
        return library.lacking()

    def check(self, facts: Facts) -> Iterable[Finding]:
        """What a merge needs; and groups that divide the base's rows."""
        yield from super().check(facts)
        if facts.model_config and not stored(facts.model_config):
            yield from self._quantizer().check(Facts(model_config=facts.model_config))

    def packed(self, facts: Facts) -> Mapping[str, Json]:
        quantizer = self._quantizer()
        arguments = quantizer.arguments()
        if facts.model_config and not stored(facts.model_config):
            arguments = {**arguments, **quantizer.derive(Facts(model_config=facts.model_config))}
        elif quantizer.options.group_size is not None:
            arguments = {**arguments, **quantizer.derive(Facts())}
        scheme = {name: argument.value for name, argument in arguments.items()}
        return {**scheme, "quant_method": quantizer.kind, "dtype": self.options.dtype or facts.dtype}

    def variants(self, facts: Facts) -> Iterable[Mapping[str, Json]]:
        """More rows, smaller groups, the ends of the model left whole, then the layer of each block that loses most."""
        config = facts.model_config or {}
        finer = {"calibration_rows": trials.ROWS, **trials.smaller(config)}
        yield {"calibration_rows": trials.ROWS}
        yield finer
        yield from ({**finer, "skip": names} for names in (trials.ends(config), trials.down(config)) if names)

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises as `merged` does, and as the quantizer's `make`."""
        if trained.calibration is None or trained.whole is None:
            raise Refused(f"`{self.kind}` packs by rows that were trained on, and was given none")
        dtype, quantizer = self.options.dtype or trained.dtype, self._quantizer()
        with tempfile.TemporaryDirectory(prefix=".merged-", dir=out) as folder:
            merged = Path(folder)
            trained.merge(merged, dtype, self.options.into or trained.trained_on)
            model = trained.whole.model(trained.base)._replace(path=merged, dtype=dtype, held=None)
            quantizer.make(model, trained.calibration, out)
            copy_beside(merged, out)
        return Form(trained.engine, attach=False, dtype=dtype, speaks=True, quantizer=self._opened_by(out))

    def _quantizer(self) -> Calibrated[Any]:
        names = self.quantizer.Options.model_fields.keys() - {"kind"}
        given = {name: getattr(self.options, name) for name in names & self.options.model_fields_set}
        return self.quantizer(self.quantizer.Options.model_validate({"kind": self.quantizer.kind, **given}))

    def _opened_by(self, out: Path) -> dict[str, Any]:
        """The quantizer as a spec would write it, with the groups that were chosen: opening compares all of it."""
        stored_as = json.loads((out / "config.json").read_text("utf-8"))["quantization_config"]
        options = self._quantizer().options.model_dump(mode="json", exclude=set(MAKING))
        return {**options, "group_size": stored_as["group_size"]}


class GptqExportOptions(MergedOptions, GptqOptions):
    """Options of a merged model that is packed by GPTQ."""

    kind: str = "gptq"


class GptqExporter(PackedExporter):
    """A whole model, packed by GPTQ."""

    kind, quantizer = "gptq", Gptq
    Options: ClassVar = GptqExportOptions
    reads = frozenset({"dtype", "into", *GptqOptions.model_fields} - {"kind"})
    vary: ClassVar = {"dtype": (None, "fp16"), **Gptq.vary}

    def variants(self, facts: Facts) -> Iterable[Mapping[str, Json]]:
        """And twice the bits, which lose next to nothing."""
        yield from super().variants(facts)
        eight = {"calibration_rows": trials.ROWS, "bits": 8}
        yield eight
        yield {**eight, "skip": trials.down(facts.model_config or {})}


class AwqExportOptions(MergedOptions, AwqOptions):
    """Options of a merged model that is packed by AWQ."""

    kind: str = "awq"


class AwqExporter(PackedExporter):
    """A whole model, packed by AWQ."""

    kind, quantizer = "awq", Awq
    Options: ClassVar = AwqExportOptions
    reads = frozenset({"dtype", "into", *AwqOptions.model_fields} - {"kind"})
    vary: ClassVar = {"dtype": (None, "fp16"), **Awq.vary}

    def variants(self, facts: Facts) -> Iterable[Mapping[str, Json]]:
        """And both together: it has no other bits than four."""
        yield from super().variants(facts)
        config = facts.model_config or {}
        yield {"calibration_rows": trials.ROWS, **trials.smaller(config),
               "skip": [*trials.ends(config), *trials.down(config)]}  # fmt: skip
