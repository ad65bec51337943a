"""What `nf4` and `fp4` share: the base in 4 bits a weight, frozen; adapters are trained through it.

Both keep blocks of 64 weights with a scale each, and differ in the values that a weight can have: NF4's cut a normal
distribution into equal shares, FP4's are those of a float with two bits of exponent and one of fraction.

QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from tunewright.parts import Argument, Cap, Facts, To
from tunewright_bitsandbytes.packed import Packed, PackedOptions

COMPUTE = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spec's names of types, and torch's."""


class FourBitOptions(PackedOptions):
    """Options of both, blocks of 64 weights."""

    double_quant: Annotated[
        bool,
        To("bnb_4bit_use_double_quant"),
        Field(description="Quantize the blocks' scales too: 0.37 bits a parameter less."),
    ] = True
    compute_dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], Field(description="Type in which the unpacked weights are multiplied.")
    ] = "bf16"


F = TypeVar("F", bound=FourBitOptions)


class FourBit(Packed[F]):
    """Linear layers in 4 bits. A scheme says which sixteen values a weight can have."""

    caveat: ClassVar = (
        "On CPUs with AVX512-BF16, bitsandbytes answers through another kernel than the one trained and measured with; "
        "its logits differ by 1 to 3 %, and so may an answer that is nearly a tie. "
        "`module.support_avx512bf16_for_cpu = False` on every `Linear4bit` of the loaded base keeps to the same one."
    )
    reads = frozenset({"compute_dtype", "skip"})
    layer = "Linear4bit"

    def computes_in(self) -> str:
        """As `compute_dtype` says."""
        return self.options.compute_dtype

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.TRAINABLE, Cap.TAKES_MERGES, Cap.FOUR_BIT, Cap.UNPACKS})

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """The library's names of types, and its list of skipped modules."""
        options = self.options
        set_by: Literal["spec", "tunewright"] = "spec" if "compute_dtype" in options.model_fields_set else "tunewright"
        dtype = Argument(COMPUTE[options.compute_dtype], set_by, "compute_dtype")
        return {"bnb_4bit_compute_dtype": dtype, **super().derive(facts)}

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

    def settle(self, packed: list[Any], use: Literal["train", "infer"]) -> None:
        """Keep every layer's weights in the layout that has a gradient.

        On CPUs with AVX512-BF16, bitsandbytes 0.50 packs a layer's weights anew at the first forward in eval mode and
        never back: gradients, merges and dequantized weights are silently wrong from then on. So the layers are told
        that the CPU cannot do it, for both uses, since one process may evaluate first and train or merge after.
        """
        for module in packed:
            module.support_avx512bf16_for_cpu = False
