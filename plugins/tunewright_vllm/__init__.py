"""vLLM: its server as an engine, what it refuses to load said before a training, an adapter laid out to be served."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "engine/vllm": "tunewright_vllm.engine:Vllm",
        "exporter/vllm": "tunewright_vllm.export:VllmExporter",
    }
