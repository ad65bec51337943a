"""`gptq`: weights rounded one after the other, each so that the ones after it make up for what was lost.

GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.parts import To
from tunewright_gptqmodel.calibrated import Calibrated, CalibratedOptions


class GptqOptions(CalibratedOptions):
    """Options of GPTQ."""

    kind: str = "gptq"
    bits: Annotated[Literal[2, 3, 4, 8], To("bits"), Field(description="Bits that a weight is held in.")] = 4
    group_size: Annotated[
        Literal[-1, 16, 32, 64, 128] | None,
        Field(
            description="Weights that share a scale, -1 for all of an output; by default the largest of 128, 64, 32 "
            "and 16 that divides the base's widths."
        ),
    ] = None
    act_order: Annotated[
        bool,
        To("desc_act"),
        Field(description="Round the columns with the largest inputs first: loses less, is slower to serve."),
    ] = False
    symmetric: Annotated[
        bool, To("sym"), Field(description="Values lie evenly about zero; else each group has a zero of its own.")
    ] = True


class Gptq(Calibrated[GptqOptions]):
    """A base packed by GPTQ."""

    kind = "gptq"
    Options: ClassVar = GptqOptions
    caveat: ClassVar = (
        "The base is packed by GPTQ: plain transformers needs gptqmodel and optimum beside it, and answers by the "
        'kernel that it finds fastest; `backend="gptq_torch"` in a GPTQConfig names the one that was measured.'
    )
    formats = frozenset({"gptq", "gptq_v2"})
    kernel = "gptq_torch"
    vary: ClassVar = {**Calibrated.vary, "bits": (4, 8), "act_order": (False, True), "symmetric": (True, False)}

    def library_config(self, **arguments: Any) -> Any:
        from transformers import GPTQConfig

        return GPTQConfig(bits=self.options.bits, **arguments)

    def settle(self, layer: Any) -> None:
        """Take off the compiled form of the unpacking, which costs minutes and a C++ compiler at the first answer."""
        vars(layer).pop("dequantize_weight", None)
