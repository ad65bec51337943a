"""What every scheme of bitsandbytes does alike: its config, and the modules that it leaves as they are."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from tunewright.errors import MissingExtra
from tunewright.parts import Argument, Cap, Facts, Finding, Options, Quantizer
from tunewright.parts.base import BadOption
from tunewright.parts.memory import BYTES, Linear, Shape
from tunewright.parts.quantizer import already_packed

TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spec's names of types, and torch's."""


class PackedOptions(Options):
    """Options of every scheme."""

    skip: Annotated[
        list[str], Field(description="Further modules that stay unquantized, by name; the LM head always does.")
    ] = []


P = TypeVar("P", bound=PackedOptions)


class Packed(Quantizer[P]):
    """Linear layers packed by bitsandbytes while loading. A scheme says which layers they become."""

    extra = "train"
    libraries = ("bitsandbytes", "transformers", "torch")
    accepts = "transformers:BitsAndBytesConfig"
    reads = frozenset({"skip"})
    layer: ClassVar[str]
    """The name of the layers that it packs, in `bitsandbytes.nn`."""

    @abstractmethod
    def settle(self, packed: list[Any], use: Literal["train", "infer"]) -> None:
        """Right after loading: set on the packed layers what the scheme needs, in place."""

    @abstractmethod
    def unpacked(self, weight: Any, like: Any, device: str) -> Any:
        """A linear layer's weight, as it was loaded, packed as the loader packs it and unpacked again.

        `like` is the weight of the layer that transformers made for it, without its numbers.
        """

    @abstractmethod
    def packed_bytes(self, linear: Linear) -> float:
        """Bytes of a packed linear layer's weights and their scales."""

    def weight_bytes(self, shape: Shape, dtype: str) -> int:
        """The layers that are packed, and all else in `dtype`: embeddings, head, norms and what `skip` names."""
        packed = self._packed_in(shape)
        plain = shape.parameters - shape.layers * sum(linear.parameters for linear in packed)
        return plain * BYTES[dtype] + round(shape.layers * sum(map(self.packed_bytes, packed)))

    def unpacked_bytes(self, shape: Shape, dtype: str) -> int:
        """One matrix in the type that it is multiplied in."""
        each = BYTES[self.computes_in() or dtype]
        return max((linear.parameters * each for linear in self._packed_in(shape)), default=0)

    def _packed_in(self, shape: Shape) -> list[Linear]:
        skipped = {name.rpartition(".")[2] for name in self._skipped}
        return [linear for linear in shape.linears if linear.name not in skipped]

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.TRAINABLE, Cap.TAKES_MERGES, Cap.UNPACKS})

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A base that is already packed cannot be packed again."""
        yield from already_packed(facts.model_config)

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """The library's list of skipped modules, which replaces its own default."""
        if not self._skipped:
            return {}
        return {"llm_int8_skip_modules": Argument(["lm_head", *self._skipped], "spec", "skip")}

    def describe(self) -> dict[str, Any]:
        """Arguments of transformers' `BitsAndBytesConfig`, plain JSON."""
        arguments = {**self.arguments(), **self.derive(Facts())}
        return {name: argument.value for name, argument in sorted(arguments.items())}

    def config(self) -> Any:
        """transformers' `BitsAndBytesConfig`. Raises `MissingExtra`."""
        import logging

        # at import it advises a package that fetches code, and at every 8-bit answer it tells of a cast
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        try:
            import bitsandbytes  # noqa: F401  where it is missing, transformers says so after minutes of loading
            from transformers import BitsAndBytesConfig
        except ImportError as error:
            raise MissingExtra(f"quantizer/{self.kind}", self.extra, error) from error
        return BitsAndBytesConfig(**self.describe())

    def held(self, outline: Any, dtype: str) -> Callable[[str, Any], Any]:
        """Each weight packed and unpacked again by itself, without a layer that could pack it anew.

        Which layers are packed, and how, transformers itself says on a copy of the outline.
        """
        config = self.config()
        import torch
        from bitsandbytes import nn
        from transformers.pytorch_utils import Conv1D
        from transformers.quantizers import AutoHfQuantizer

        kept, device = getattr(torch, TYPES[dtype]), "cuda" if torch.cuda.is_available() else "cpu"
        packed = copy.deepcopy(outline)
        AutoHfQuantizer.from_config(config, pre_quantized=False).preprocess_model(
            model=packed, dtype=kept, device_map={"": device}
        )
        kind = getattr(nn, self.layer)
        layers = {f"{path}.weight": layer for path, layer in packed.named_modules() if isinstance(layer, kind)}

        def held(name: str, weight: Any) -> Any:
            if not weight.is_floating_point():
                return weight
            weight = weight.to(kept)  # as it was loaded, of a type of its own or not
            if name not in layers:
                return weight
            turned = issubclass(layers[name].source_cls, Conv1D)  # GPT-2's layers hold theirs the other way round
            weight = weight.T.contiguous() if turned else weight
            plain = self.unpacked(weight, layers[name].weight, device).to(kept).cpu()
            return plain.T.contiguous() if turned else plain

        return held

    def prepare(self, model: Any, use: Literal["train", "infer"]) -> None:
        """Set what the packed layers need. Raises `BadOption` for a `skip` of nothing, or of everything."""
        from bitsandbytes import nn
        from torch.nn import Linear

        linear = {path: module for path, module in model.named_modules() if isinstance(module, Linear)}
        packed = [module for module in linear.values() if isinstance(module, getattr(nn, self.layer))]
        for name in self._skipped:
            if not any(f".{path}".endswith(f".{name}") or path.startswith(f"{name}.") for path in linear):
                raise BadOption("unknown-module", f"the model has no linear layer `{name}` to skip", "skip")
        if not packed:
            raise BadOption("unknown-module", "with these modules skipped, no layer is left to quantize", "skip")
        self.settle(packed, use)

    @property
    def _skipped(self) -> list[str]:
        return sorted(self.options.skip)
