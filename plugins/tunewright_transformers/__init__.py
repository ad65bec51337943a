"""Models through transformers: sources of bases, loading, asking, full fine-tuning, the export of what was trained."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "loader/transformers": "tunewright_transformers.loader:TransformersLoader",
        "engine/transformers": "tunewright_transformers.engine:TransformersEngine",
        "model_source/pypi": "tunewright_transformers.pypi:PypiSource",
        "model_source/local": "tunewright_transformers.local:LocalSource",
        "quantizer/none": "tunewright_transformers.unquantized:NoQuantizer",
        "adapter/none": "tunewright_transformers.full:FullTuning",
        "exporter/adapter": "tunewright_transformers.export:AdapterExporter",
    }
