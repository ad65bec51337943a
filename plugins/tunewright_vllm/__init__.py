"""vLLM: what it refuses to load, said before a training, and an adapter laid out to be served by it."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"exporter/vllm": "tunewright_vllm.export:VllmExporter"}
