"""`nf4`: the base in 4-bit NormalFloat, frozen; adapters are trained through it.

QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.errors import MissingExtra
from tunewright.parts import Argument, Cap, Facts, Finding, Options, Quantizer, To
from tunewright.parts.base import BadOption

COMPUTE = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spec's names of types, and torch's."""


class Nf4Options(Options):
    """Options of NF4, blocks of 64 weights."""

    kind: str = "nf4"
    double_quant: Annotated[
        bool,
        To("bnb_4bit_use_double_quant"),
        Field(description="Quantize the blocks' scales too: 0.37 bits a parameter less."),
    ] = True
    compute_dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], Field(description="Type in which the unpacked weights are multiplied.")
    ] = "bf16"
    skip: Annotated[
        list[str], Field(description="Further modules that stay unquantized, by name; the LM head always does.")
    ] = []


class Nf4(Quantizer[Nf4Options]):
    """Linear layers packed by bitsandbytes while loading."""

    kind = "nf4"
    Options: ClassVar = Nf4Options
    extra = "train"
    libraries = ("bitsandbytes", "transformers", "torch")
    caveat: ClassVar = (
        "On CPUs with AVX512-BF16, bitsandbytes answers through another kernel than the one trained and measured with; "
        "its logits differ by 1 to 3 %, and so may an answer that is nearly a tie. "
        "`module.support_avx512bf16_for_cpu = False` on every `Linear4bit` of the loaded base keeps to the same one."
    )
    accepts = "transformers:BitsAndBytesConfig"
    fixed: ClassVar = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    reads = frozenset({"compute_dtype", "skip"})

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.TRAINABLE, Cap.TAKES_MERGES, Cap.FOUR_BIT, Cap.UNPACKS})

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A base that is already packed cannot be packed again."""
        if (facts.model_config or {}).get("quantization_config"):
            yield Finding(
                "base-already-quantized", "the base is already quantized", suggestion="take its unquantized weights"
            )

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """The library's names of types, and its list of skipped modules, which replaces its own default."""
        given = self.options.model_fields_set
        found = {
            "bnb_4bit_compute_dtype": Argument(
                COMPUTE[self.options.compute_dtype],
                "spec" if "compute_dtype" in given else "tunewright",
                "compute_dtype",
            )
        }
        if self.options.skip:
            found["llm_int8_skip_modules"] = Argument(["lm_head", *sorted(self.options.skip)], "spec", "skip")
        return found

    def describe(self) -> dict[str, Any]:
        """Arguments of transformers' `BitsAndBytesConfig`, plain JSON."""
        arguments = {**self.arguments(), **self.derive(Facts())}
        return {name: argument.value for name, argument in sorted(arguments.items())}

    def config(self) -> Any:
        """transformers' `BitsAndBytesConfig`. Raises `MissingExtra`."""
        import logging

        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # at import it advises a package that fetches code
        try:
            import bitsandbytes  # noqa: F401  where it is missing, transformers says so after minutes of loading
            from transformers import BitsAndBytesConfig
        except ImportError as error:
            raise MissingExtra("quantizer/nf4", self.extra, error) from error
        return BitsAndBytesConfig(**self.describe())

    def held(self, outline: Any, dtype: str) -> Callable[[str, Any], Any]:
        """Each weight packed as the loader packs it, and unpacked again, without a layer that could pack it anew.

        Which layers are packed, and how, transformers itself says on a copy of the outline.
        """
        config = self.config()
        import torch
        from bitsandbytes.functional import dequantize_4bit
        from bitsandbytes.nn import Linear4bit, Params4bit
        from transformers.pytorch_utils import Conv1D
        from transformers.quantizers import AutoHfQuantizer

        kept, device = getattr(torch, COMPUTE[dtype]), "cuda" if torch.cuda.is_available() else "cpu"
        packed = copy.deepcopy(outline)
        AutoHfQuantizer.from_config(config, pre_quantized=False).preprocess_model(
            model=packed, dtype=kept, device_map={"": device}
        )
        layers = {f"{path}.weight": layer for path, layer in packed.named_modules() if isinstance(layer, Linear4bit)}

        def unpacked(name: str, weight: Any) -> Any:
            if not weight.is_floating_point():
                return weight
            weight = weight.to(kept)  # as it was loaded, of a type of its own or not
            if name not in layers:
                return weight
            turned = issubclass(layers[name].source_cls, Conv1D)  # GPT-2's layers hold theirs the other way round
            weight = weight.T.contiguous() if turned else weight
            made = Params4bit(weight, requires_grad=False, **vars(layers[name].weight)).to(device)
            plain = dequantize_4bit(made.data, made.quant_state).cpu()
            return plain.T.contiguous() if turned else plain

        return unpacked

    def prepare(self, model: Any, use: Literal["train", "infer"]) -> None:
        """Keep every layer's weights in the layout that has a gradient. Raises `BadOption` for a `skip` of nothing.

        On CPUs with AVX512-BF16, bitsandbytes 0.50 packs a layer's weights anew at the first forward in eval mode and
        never back: gradients, merges and dequantized weights are silently wrong from then on. So the layers are told
        that the CPU cannot do it, for both uses, since one process may evaluate first and train or merge after.
        """
        from bitsandbytes.nn import Linear4bit
        from torch.nn import Linear

        linear = {path: module for path, module in model.named_modules() if isinstance(module, Linear)}
        packed = [module for module in linear.values() if isinstance(module, Linear4bit)]
        for name in self.options.skip:
            if not any(f".{path}".endswith(f".{name}") or path.startswith(f"{name}.") for path in linear):
                raise BadOption("unknown-module", f"the model has no linear layer `{name}` to skip", "skip")
        if not packed:
            raise BadOption("unknown-module", "with these modules skipped, no layer is left to quantize", "skip")
        for module in packed:
            module.support_avx512bf16_for_cpu = False
