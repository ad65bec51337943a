"""GPTQ and AWQ through gptqmodel: bases that are packed by calibration, and exports of what was trained."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "quantizer/awq": "tunewright_gptqmodel.awq:Awq",
        "quantizer/gptq": "tunewright_gptqmodel.gptq:Gptq",
        "exporter/awq": "tunewright_gptqmodel.export:AwqExporter",
        "exporter/gptq": "tunewright_gptqmodel.export:GptqExporter",
    }
