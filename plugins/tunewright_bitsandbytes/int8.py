"""`int8`: the base in 8 bits a weight, a scale a row, frozen; adapters are trained through it.

LLM.int8, Dettmers et al. 2022, https://arxiv.org/abs/2208.07339. What bitsandbytes 0.50 makes of it on a CPU, measured:

- In train mode a layer multiplies by its unpacked weights: outputs and gradients are theirs, in fp32, bf16 and fp16,
  and an evaluation changes none of them.
- In eval mode it rounds its inputs to 8 bits too, but for columns that hold a value beyond the threshold. In a small
  model that is as far from the first as the first is from the plain weights, 4 %. Which columns these are depends on
  the whole batch, and so do the answers a little.
- A layer that was unpacked after it had answered has lost its scales, and its next answer is an `AttributeError`. PEFT
  unpacks so (`dequantize_module_weight`), for DoRA in every step.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.parts import To
from tunewright.parts.memory import Linear
from tunewright_bitsandbytes.packed import Packed, PackedOptions


class Int8Options(PackedOptions):
    """Options of LLM.int8."""

    kind: str = "int8"
    threshold: Annotated[
        float,
        To("llm_int8_threshold"),
        Field(
            ge=0,
            description="Input columns with a value beyond it are multiplied unrounded; 0 rounds all, and an answer "
            "does then not depend on what else is in the batch. Training on a CPU rounds no inputs.",
        ),
    ] = 6.0


class Int8(Packed[Int8Options]):
    """Linear layers in 8-bit integers."""

    kind = "int8"
    Options: ClassVar = Int8Options
    caveat: ClassVar = (
        "LLM.int8 rounds a layer's inputs as well as its weights when it answers; on a CPU it was trained with rounded "
        "weights alone. With a threshold above 0, which inputs are rounded depends on the whole batch: an answer that "
        "is nearly a tie may be another beside other prompts."
    )
    fixed: ClassVar = {"load_in_8bit": True}
    layer = "Linear8bitLt"

    def packed_bytes(self, linear: Linear) -> float:
        """A byte a weight, an fp32 scale an output."""
        return linear.parameters + 4 * linear.outputs

    def unpacked(self, weight: Any, like: Any, device: str) -> Any:
        """What a layer multiplies by in a training on a CPU; when it is asked, and in a training on a card, it rounds
        its inputs besides, which no weights tell."""
        from bitsandbytes.functional import int8_vectorwise_dequant
        from bitsandbytes.nn import Int8Params

        made = Int8Params(weight, requires_grad=False, has_fp16_weights=like.has_fp16_weights).to(device)
        return int8_vectorwise_dequant(made.data, made.SCB)

    def settle(self, packed: list[Any], use: Literal["train", "infer"]) -> None:
        """Let no layer lose its scales; and in a training, let each compute one function in train and eval mode.

        Else, on a CPU, a validation loss, and which weights are kept by it, would be those of another model than the
        one that is trained. What is asked answers as the library alone does: that is what will be served.
        """
        scaled, steady = _layers()
        for module in packed:
            module.__class__ = steady if use == "train" else scaled
            module.train(module.training)


@cache
def _layers() -> tuple[type, type]:
    """`Linear8bitLt` that keeps its scales, and one that is always in train mode too; a class imports its parent."""
    from bitsandbytes.nn import Linear8bitLt

    class Scaled(Linear8bitLt):  # type: ignore[misc]
        def init_8bit_state(self) -> None:
            """As the library's; but weights that were moved come without their scales, which the state still has."""
            if self.weight.SCB is None:
                self.weight.CB = None
            else:
                super().init_8bit_state()

    class Steady(Scaled):
        def train(self, mode: bool = True) -> Any:
            return super().train(True)

    return Scaled, Steady
