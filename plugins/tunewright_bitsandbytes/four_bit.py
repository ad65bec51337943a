"""What `nf4` and `fp4` share: the base in 4 bits a weight, frozen; adapters are trained through it.

Both keep blocks of 64 weights with a scale each, and differ in the values that a weight can have: NF4's cut a normal
distribution into equal shares, FP4's are those of a float with two bits of exponent and one of fraction.

QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from tunewright.parts import Argument, Cap, Facts, To
from tunewright.parts.memory import BYTES, Linear, Shape
from tunewright.parts.quantizer import KEPT_AT_MOST
from tunewright_bitsandbytes.kept import keep_unpacked
from tunewright_bitsandbytes.packed import TYPES, Packed, PackedOptions


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

BLOCK, SCALES = 64, 256
"""Weights that share a scale, and scales that share one under double quantization (QLoRA, section 3)."""
VALUES = 16 * 4
"""Bytes of the table of values that each layer keeps; with double quantization a table of 256 more."""


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

    def packed_bytes(self, linear: Linear) -> float:
        """Half a byte a weight; an fp32 scale a block, or one byte a block and an fp32 scale of 256 of them."""
        blocks = -(-linear.parameters // BLOCK)
        if not self.options.double_quant:
            return linear.parameters / 2 + 4 * blocks + VALUES
        return linear.parameters / 2 + blocks + 4 * -(-blocks // SCALES) + VALUES + 4 * 256

    def kept_bytes(self, shape: Shape, dtype: str) -> int:
        """All packed layers in the type that they are multiplied in, where that is little."""
        parameters = shape.layers * sum(linear.parameters for linear in self._packed_in(shape))
        kept = parameters * BYTES[self.computes_in()]
        return kept if kept <= KEPT_AT_MOST else 0

    def offers(self) -> frozenset[Cap]:
        return super().offers() | {Cap.FOUR_BIT}

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """The library's names of types, and its list of skipped modules."""
        options = self.options
        set_by: Literal["spec", "tunewright"] = "spec" if "compute_dtype" in options.model_fields_set else "tunewright"
        dtype = Argument(TYPES[options.compute_dtype], set_by, "compute_dtype")
        return {"bnb_4bit_compute_dtype": dtype, **super().derive(facts)}

    def unpacked(self, weight: Any, like: Any, device: str) -> Any:
        from bitsandbytes.functional import dequantize_4bit
        from bitsandbytes.nn import Params4bit

        made = Params4bit(weight, requires_grad=False, **vars(like)).to(device)
        return dequantize_4bit(made.data, made.quant_state)

    def settle(self, packed: list[Any], use: Literal["train", "infer"]) -> None:
        """Keep every layer's weights in the layout that has a gradient.

        On CPUs with AVX512-BF16, bitsandbytes 0.50 packs a layer's weights anew at the first forward in eval mode and
        never back: gradients, merges and dequantized weights are silently wrong from then on. So the layers are told
        that the CPU cannot do it, for both uses, since one process may evaluate first and train or merge after.
        """
        for module in packed:
            module.support_avx512bf16_for_cpu = False
        if use == "infer":
            keep_unpacked(packed)
