"""`nf4`: the base in 4-bit NormalFloat, frozen; adapters are trained through it.

QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

from typing import ClassVar

from tunewright_bitsandbytes.four_bit import FourBit, FourBitOptions


class Nf4Options(FourBitOptions):
    """Options of NF4, blocks of 64 weights."""

    kind: str = "nf4"


class Nf4(FourBit[Nf4Options]):
    """Linear layers in 4-bit NormalFloat."""

    kind = "nf4"
    Options: ClassVar = Nf4Options
    fixed: ClassVar = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    lightens = "the base's weights are rounded to 4 bits, and it answers somewhat worse: see docs/how-to/quantize.md"
