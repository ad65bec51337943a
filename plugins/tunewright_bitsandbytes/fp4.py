"""`fp4`: the base in 4-bit floats, frozen; adapters are trained through it. `nf4` loses less of most bases.

QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

from typing import ClassVar

from tunewright_bitsandbytes.four_bit import FourBit, FourBitOptions


class Fp4Options(FourBitOptions):
    """Options of FP4, blocks of 64 weights."""

    kind: str = "fp4"


class Fp4(FourBit[Fp4Options]):
    """Linear layers in 4-bit floats: a sign, two bits of exponent, one of fraction."""

    kind = "fp4"
    Options: ClassVar = Fp4Options
    fixed: ClassVar = {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}
