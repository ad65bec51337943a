"""Which packed weights vLLM opens, known without it.

What 0.32 refuses on every machine, by its own words when it loads them: `auto_gptq.py`, `utils/marlin_utils.py` and
`utils/gptq_utils.py` of `vllm/model_executor/layers/quantization`, and `_get_quantization_config` of
`vllm/config/vllm.py`. What it refuses on some machines alone, as GPTQ's 8 bits on a CPU, shows when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunewright.parts import Finding
from tunewright.parts.base import Json

BITS = (4, 8)
GROUPS = (-1, 32, 64, 128)


def unserved(packed: Mapping[str, Json]) -> Iterator[Finding]:
    """Why it does not open weights that are packed so (`Exporter.packed`); what is not told there is not refused."""
    if packed and packed.get("dtype") == "fp32":
        yield _found("in fp16 or bf16, and this export is in fp32", "write `dtype: bf16` in the export")
    if packed.get("quant_method") != "gptq":
        return
    if packed.get("bits", BITS[0]) not in BITS:
        yield _found(f"by GPTQ in 4 or 8 bits, and this export has {packed['bits']}", "write `bits: 4`")
    if packed.get("sym") is False:
        yield _found("by GPTQ about zero, and this export has `symmetric: false`", "leave `symmetric` out")
    group = packed.get("group_size")
    if packed.get("desc_act") and group != -1:
        fix = "leave `act_order` out, or write `group_size: -1`"
        yield _found("by GPTQ with its columns in order, and this export has `act_order: true`", fix)
    if group is not None and group not in GROUPS:
        yield _found(f"by GPTQ in groups of 32, 64 or 128, and this export has {group}", "write `group_size: -1`")


def _found(why: str, fix: str) -> Finding:
    message = f"vLLM serves packed weights {why}"
    return Finding("target-cannot-load", message, suggestion=f"{fix}; or leave `engine` out, and serve it otherwise")
