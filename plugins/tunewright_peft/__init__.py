"""Adapters through PEFT."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"adapter/lora": "tunewright_peft.lora:Lora"}
