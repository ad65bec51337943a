"""4-bit and 8-bit bases through bitsandbytes."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "quantizer/fp4": "tunewright_bitsandbytes.fp4:Fp4",
        "quantizer/int8": "tunewright_bitsandbytes.int8:Int8",
        "quantizer/nf4": "tunewright_bitsandbytes.nf4:Nf4",
    }
