"""4-bit bases through bitsandbytes."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"quantizer/nf4": "tunewright_bitsandbytes.nf4:Nf4"}
