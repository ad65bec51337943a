"""Adapters through PEFT: trained, merged, combined."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "adapter/ia3": "tunewright_peft.ia3:Ia3",
        "adapter/lora": "tunewright_peft.lora:Lora",
        "adapter/peft": "tunewright_peft.tuner:Tuner",
        "exporter/weighted": "tunewright_peft.weighted:WeightedExporter",
    }
