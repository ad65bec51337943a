"""`awq`: the weights that matter most to a layer's outputs are scaled up before all are rounded, its inputs down.

AWQ, Lin et al. 2023, https://arxiv.org/abs/2306.00978. It is laid out for the GEMM kernels, which every engine reads;
the GEMV layouts are for single requests on CUDA cards, and neither vLLM nor a CPU takes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Facts, Finding, To
from tunewright.parts.quantizer import stored
from tunewright_gptqmodel.calibrated import Calibrated, CalibratedOptions
from tunewright_gptqmodel.widths import outputs

OUTPUTS = 64


class AwqOptions(CalibratedOptions):
    """Options of AWQ, 4 bits a weight."""

    kind: str = "awq"
    zero_point: Annotated[
        bool, To("zero_point"), Field(description="Each group has a zero of its own; else values lie evenly about it.")
    ] = True


class Awq(Calibrated[AwqOptions]):
    """A base packed by AWQ."""

    kind = "awq"
    Options: ClassVar = AwqOptions
    caveat: ClassVar = (
        "The base is packed by AWQ: plain transformers needs gptqmodel beside it, and answers by the kernel that it "
        'finds fastest; `backend="torch_awq"` in an AwqConfig names the one that was measured.'
    )
    fixed: ClassVar = {"bits": 4}
    formats = frozenset({"gemm"})
    kernel = "torch_awq"
    vary: ClassVar = {**Calibrated.vary, "zero_point": (True, False)}

    def check(self, facts: Facts) -> Iterable[Finding]:
        """gptqmodel looks for the best range of 64 outputs at a time."""
        yield from super().check(facts)
        config = facts.model_config or {}
        for name, width in outputs(config).items() if not stored(config) else ():
            if width % OUTPUTS:
                message = f"the base's layers have {width} outputs ({name}); AWQ packs {OUTPUTS} at a time"
                yield Finding("bad-value", message, suggestion="take `gptq`")
                return

    def library_config(self, **arguments: Any) -> Any:
        from transformers import AwqConfig

        return AwqConfig(bits=4, **arguments)

    def settle(self, layer: Any) -> None:
        """gptqmodel's own layer multiplies in fp16 what comes in fp32: slow on a CPU, and small gradients are lost."""
        layer.__class__ = _layer()


@cache
def _layer() -> type:
    """gptqmodel's plain layer, multiplying in the type of its inputs; a class imports its parent."""
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear, dequantize_gemm

    class Plain(AwqTorchLinear):  # type: ignore[misc]
        def dequantize_weight(self) -> Any:
            return dequantize_gemm(self.qweight, self.qzeros, self.scales, self.bits, self.group_size)

        def forward(self, x: Any) -> Any:
            out = x @ self.dequantize_weight().to(x.dtype)
            return out if self.bias is None else out + self.bias.to(x.dtype)

    return Plain
