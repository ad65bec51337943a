"""What `gptq` and `awq` do alike: a base is packed once, by rows that are trained on, and opened as it is stored.

gptqmodel packs it in a process of its own: it keeps threads and files, and what memory it took is given back when it
ends. What was packed is loaded through transformers, and always by the one kernel that unpacks a layer's weights and
multiplies by them: it is the same function in train and eval mode, and has a gradient. The faster ones of gptqmodel
lay the weights out anew at the first answer; a serving engine brings its own.
"""

from __future__ import annotations

import json
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, PositiveInt

from tunewright.errors import BadInput, EnvironmentFault, Refused
from tunewright.parts import Argument, Cap, Facts, Finding, Need, Options, Quantizer
from tunewright.parts.adapter import ModelDir
from tunewright.parts.base import BadOption
from tunewright.parts.quantizer import Calibration, stored
from tunewright_gptqmodel import library, packing, widths
from tunewright_gptqmodel.kept import keep_unpacked

MAKING = ("calibration_rows", "skip")
"""Options that only the packing of a base reads."""


class CalibratedOptions(Options):
    """Options of both schemes."""

    group_size: Annotated[
        Literal[16, 32, 64, 128] | None,
        Field(
            description="Weights that share a scale; by default the largest of 128, 64, 32 and 16 that divides the "
            "base's widths."
        ),
    ] = None
    skip: Annotated[
        list[str], Field(description="Further modules that stay unquantized, by name; the LM head always does.")
    ] = []
    calibration_rows: Annotated[
        PositiveInt, Field(description="Rows, of those that are trained on, by which the weights are packed.")
    ] = 32


C = TypeVar("C", bound=CalibratedOptions)


class Calibrated(Quantizer[C]):
    """Linear layers packed by calibration. A scheme says which arguments it has."""

    extra = library.EXTRA
    libraries = ("gptqmodel", "optimum", "transformers", "torch")
    reads = frozenset({"group_size", "skip", "calibration_rows"})
    vary: ClassVar = {"group_size": (32, 16), "skip": ([], ["down_proj"]), "calibration_rows": (2, 4)}
    formats: ClassVar[frozenset[str]]
    """How its weights may be laid out in files that are opened."""
    kernel: ClassVar[str]
    """gptqmodel's name of the kernel that a base is opened by."""

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.TRAINABLE, Cap.MAKES})

    def needs(self) -> Iterable[Need]:
        why = "take `lora` with its own start and without `dora`, or another quantization"
        yield Need("adapter", Cap.BESIDE, "base-not-trainable", why)

    def lacking(self) -> str | None:
        return library.lacking()

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A base that is packed must be packed so; of another, the groups must divide the rows."""
        found = stored(facts.model_config)
        if found:
            yield from self._unlike(found)
        elif facts.model_config:
            yield from widths.misfits(facts.model_config, self.options.group_size)

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """Of a packed base, what it is stored with; of another, the groups where no option says them."""
        found = stored(facts.model_config)
        if found:
            fields, why = self._fields(), "as the base is stored"
            return {name: Argument(found[name], "tunewright", fields[name], why) for name in fields if name in found}
        if self.options.group_size is not None:
            return {"group_size": Argument(self.options.group_size, "spec", "group_size")}
        size = widths.fitting(facts.model_config) if facts.model_config else None
        why = "the largest usual size that divides the base's widths"
        return {} if size is None else {"group_size": Argument(size, "tunewright", "group_size", why)}

    def make(self, model: ModelDir, rows: Calibration, out: Path) -> None:
        """Pack the base in a process of its own. Raises `WorkFailed` with gptqmodel's last words, `BadInput` where no
        group divides the base's widths or `skip` names no layer of it."""
        if why := self.lacking():
            raise EnvironmentFault(f"quantizer `{self.kind}`: {why}")
        config = _config(model.path)
        self._refuse_unknown(model.outline)
        arguments = {name: argument.value for name, argument in self.arguments().items()}
        arguments["group_size"] = widths.chosen(config, self.options.group_size)
        asked = packing.Asked(self.kind, arguments, sorted(self.options.skip), model.dtype)
        packing.pack(model.path, asked, rows(self.options.calibration_rows), out)

    def config(self) -> Any:
        """transformers' config of the scheme, of which a packed base takes the kernel alone. Raises `MissingExtra`."""
        library.library(f"quantizer/{self.kind}")
        # it warns that of this config only the kernel counts, which is what is meant
        warnings.filterwarnings("ignore", message="You passed `quantization_config`", category=UserWarning)
        return self.library_config(backend=self.kernel)

    @abstractmethod
    def library_config(self, **arguments: Any) -> Any:
        """transformers' config of the scheme."""

    def prepare(self, model: Any, use: Literal["train", "infer"]) -> None:
        """Compare with the options what was loaded, and settle its layers. Raises `BadOption` where it is packed
        otherwise."""
        config = model.config.to_dict()
        if not stored(config):
            raise Refused("the base is not packed yet", fix=f"`{self.kind}` is made by the step `quantize`")
        for finding in self._unlike(_plain(stored(config)), opening=True):
            raise BadOption(*finding[:4])
        packed = [module for module in model.modules() if hasattr(module, "qweight")]
        for module in packed:
            self.settle(module)
        if use == "infer":
            keep_unpacked(packed)

    @abstractmethod
    def settle(self, layer: Any) -> None:
        """Make a packed layer one function, in train mode and in eval mode, of the type that it is given."""

    def _unlike(self, found: Mapping[str, Any], opening: bool = False) -> Iterator[Finding]:
        """Where a stored scheme is another than the options say; one that nobody wrote is taken as it is stored."""
        code, method = "base-already-quantized", found.get("quant_method")
        if method != self.kind:
            known = f"write `quantization: {method}`, or " if method in ("awq", "gptq") else ""
            message = f"the base is already packed, by {method or 'a scheme that it does not name'}"
            yield Finding(code, message, suggestion=f"{known}take its unquantized weights")
            return
        layout = found.get("checkpoint_format") or found.get("format") or found.get("version") or "gptq"
        if str(layout).lower() not in self.formats:
            message = f"the base's weights are laid out as `{layout}`, which is for kernels that are not used here"
            yield Finding(code, message, suggestion=f"take one that is laid out as {' or '.join(sorted(self.formats))}")
        for name, value in self.fixed.items():
            if found.get(name, value) != value:
                yield Finding(code, f"the base is packed with `{name}: {found[name]}`, and `{self.kind}` is {value}")
        for name, field in self._fields().items():
            value = getattr(self.options, field)
            if field in self.options.model_fields_set and value is not None and found.get(name, value) != value:
                message = f"the base is packed with `{name}: {found[name]}`"
                yield Finding(code, message, field, f"leave `{field}` out: it is opened as it is stored")
        for field in MAKING:
            if field in self.options.model_fields_set and not opening:
                message = f"`{field}` does nothing here: the base is packed already"
                yield Finding("argument-unused", message, field, "leave it out", at_key=True)

    def _refuse_unknown(self, outline: Any) -> None:
        """Raise `BadOption` by a name of `skip` that no linear layer has, nor a module that holds one."""
        if outline is None or not self.options.skip:
            return
        from torch.nn import Linear

        paths = [path for path, module in outline.named_modules() if isinstance(module, Linear)]
        for name in self.options.skip:
            if not any(re.search(packing.pattern(name), path) for path in paths):
                raise BadOption("unknown-module", f"the model has no linear layer `{name}` to skip", "skip")

    def _fields(self) -> dict[str, str]:
        """The library's arguments of the scheme, and the options that they come from."""
        named = {name: found.field for name, found in self.arguments().items() if found.field}
        return {**named, "group_size": "group_size"}


def _config(base: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((base / "config.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{base.name}/config.json cannot be read: {error}", fix="fetch the model again") from error


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Enumerations of the library as the text that they stand for."""
    return {name: getattr(value, "value", value) for name, value in found.items()}
