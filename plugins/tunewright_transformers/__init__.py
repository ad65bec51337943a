"""Models through transformers: sources of bases, loading, asking, full fine-tuning, the export of what was trained."""

import os

from tunewright.host import hookimpl

# Read before library.py sets it for all libraries: what the user wrote keeps the source `hub` off the network too.
OFFLINE_BY_USER = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "loader/transformers": "tunewright_transformers.loader:TransformersLoader",
        "engine/transformers": "tunewright_transformers.engine:TransformersEngine",
        "model_source/pypi": "tunewright_transformers.pypi:PypiSource",
        "model_source/hub": "tunewright_transformers.hub:HubSource",
        "model_source/local": "tunewright_transformers.local:LocalSource",
        "quantizer/none": "tunewright_transformers.unquantized:NoQuantizer",
        "adapter/none": "tunewright_transformers.full:FullTuning",
        "exporter/adapter": "tunewright_transformers.export:AdapterExporter",
        "exporter/merged": "tunewright_transformers.merged:MergedExporter",
    }
