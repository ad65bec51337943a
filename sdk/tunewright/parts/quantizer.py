"""How a base's weights are stored: one backend a scheme.

A complete quantizer, which rounds the base's weights as a number of few bits would:

    from typing import Annotated

    from pydantic import Field, PositiveInt
    from tunewright.parts import Cap, Options, Quantizer
    from tunewright.testing import check_quantizer

    class RoundedOptions(Options):
        kind: str = "rounded"
        steps: Annotated[PositiveInt, Field(description="Steps up to the largest weight.")] = 127

    class Rounded(Quantizer[RoundedOptions]):
        kind, Options, libraries = "rounded", RoundedOptions, ("torch",)
        caveat = "Rounding is applied after loading: the base alone answers slightly otherwise."
        reads = frozenset({"steps"})
        vary = {"steps": (7, 127)}  # for the kit: two values that must make a difference

        def offers(self):
            return frozenset({Cap.TRAINABLE})  # adapters learn on it; its own weights are frozen

        def config(self):
            return None  # for `from_pretrained(quantization_config=…)`: the library does nothing

        def prepare(self, model, use):  # right after loading, in place
            for weight in model.parameters():
                step = weight.data.abs().max().clamp(min=1e-12) / self.options.steps
                weight.data = (weight.data / step).round() * step

    def test_it_keeps_its_contract(tmp_path):
        check_quantizer(Rounded, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tunewright.errors import Refused
from tunewright.parts.base import Backend, Cap, Finding, Json, O
from tunewright.parts.memory import BYTES, Shape

if TYPE_CHECKING:
    from tunewright.parts.adapter import ModelDir

Calibration = Callable[[int], list[list[int]]]
"""`rows(n)`: the token ids of n rows that are trained on, drawn by the spec's seed and the same at every call; of all
of them, where there are fewer. No row that judges the model, or chooses among checkpoints, is ever one of them."""


KEPT_AT_MOST = 2_000_000_000
"""Bytes of unpacked weights that a CPU keeps while it asks a packed model: for each token it would unpack them anew,
which takes as long as the products. A larger model is unpacked layer by layer, as a training is, for memory's sake."""


def stored(config: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """How a config.json says that its base is packed: libraries write it as `quantization_config`. Empty for a base
    with its whole weights, and for one that is not known yet."""
    found = (config or {}).get("quantization_config")
    return found if isinstance(found, Mapping) else {}


def already_packed(config: Mapping[str, Json] | None) -> Iterator[Finding]:
    """The finding of a scheme that packs a base while it is loaded, or leaves it as it is, on one that is packed."""
    if found := stored(config):
        method = str(found.get("quant_method") or "")
        message = f"the base is already quantized{f', by {method}' if method else ''}"
        fix = f"take its unquantized weights{f', or a quantization of the kind `{method}`' if method else ''}"
        yield Finding("base-already-quantized", message, suggestion=fix)


class Quantizer(Backend[O]):
    """Describes a quantization to the loader, and prepares a model that was loaded with it."""

    part: ClassVar[str] = "quantizer"
    caveat: ClassVar[str] = ""
    """What anyone should know who loads the base with the library alone; it stands in the model card."""
    lightens: ClassVar[str] = ""
    """What it costs to take it, by its defaults, where a base's own weights do not fit into the memory: `plan` then
    proposes it in these words. Empty where it is not to be proposed."""

    @abstractmethod
    def config(self) -> Any:
        """The library's quantization config for loading (transformers' `QuantizationConfigMixin`), or None."""

    def computes_in(self) -> str | None:
        """The spec's name of the type that packed weights are multiplied in; None where it is the model's own."""
        return None

    def weight_bytes(self, shape: Shape, dtype: str) -> int | None:
        """Bytes that a base takes once it is loaded, its unquantized numbers in `dtype`; None where it cannot tell.

        By default every number is of `dtype`. A scheme that packs says how many bytes its packed layers and their
        scales take: the forecast of memory adds them up before anything is fetched.
        """
        return None if self.describe() else shape.parameters * BYTES[dtype]

    def unpacked_bytes(self, shape: Shape, dtype: str) -> int:
        """Bytes that the widest packed layer takes while it is multiplied; 0 where nothing is unpacked for that."""
        return 0

    def kept_bytes(self, shape: Shape, dtype: str) -> int:
        """Bytes of unpacked weights that are kept while a model is asked on a CPU; 0 where each layer is unpacked as it
        is multiplied. See `KEPT_AT_MOST`."""
        return 0

    def prepare(self, model: Any, use: Literal["train", "infer"]) -> None:
        """Right after loading: set what the scheme needs on the model, in place."""

    def held(self, outline: Any, dtype: str) -> Callable[[str, Any], Any]:
        """A function of a tensor's name in the model and the base's own tensor: what a base that was loaded in `dtype`
        with this quantizer holds in its place, unpacked; the tensor itself where the scheme leaves it as it is.

        `outline` is the model without its numbers, and stays as it is. `Cap.UNPACKS` offers it.
        """
        raise Refused(f"what `{self.kind}` packs is not unpacked here", fix="merge into the original weights")

    def make(self, model: ModelDir, rows: Calibration, out: Path) -> None:
        """Write the base of `model.path`, packed by this scheme, into the empty folder `out`: config.json, which says
        how it is packed, and the weights as safetensors, mode 0644, no path of this machine, equal inputs give equal
        bytes. The base is never changed; its other files are copied by the core.

        `Cap.MAKES` offers it: the core then packs a base that is not packed yet, and `config` opens what was made.
        """
        raise Refused(f"`{self.kind}` packs a base while it is loaded, and makes nothing beforehand")

    def describe(self) -> dict[str, Any]:
        """What the library alone needs to load the base the same way; plain JSON, {} for no quantization."""
        return {}

    def as_stored(self) -> bool:
        """Whether a base that it opens is the one that lies in its files: left as it is, or packed beforehand. Where it
        is packed while it is loaded, whoever loads the files alone has another model."""
        return bool(self.offers() & {Cap.FULLY_TRAINABLE, Cap.MAKES})
