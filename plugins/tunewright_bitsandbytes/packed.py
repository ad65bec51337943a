"""What every scheme of bitsandbytes does alike: its config, and the modules that it leaves as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from tunewright.errors import MissingExtra
from tunewright.parts import Argument, Facts, Finding, Options, Quantizer
from tunewright.parts.base import BadOption
from tunewright.parts.quantizer import already_packed


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
