"""llama.cpp: models and adapters as GGUF, the engine that opens them, and what Ollama makes of them."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "engine/llama-cpp": "tunewright_llamacpp.engine:LlamaCpp",
        "exporter/gguf": "tunewright_llamacpp.export:GgufExporter",
        "exporter/gguf-lora": "tunewright_llamacpp.lora:GgufLoraExporter",
        "exporter/ollama": "tunewright_llamacpp.ollama:OllamaExporter",
    }
