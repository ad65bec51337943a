"""What goes along with vLLM wherever it is started: its names of types, and the plugin for its LoRA on a CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a distribution called `vllm`
PLUGIN = "tunewright_lora"


def write_plugin(folder: Path) -> None:
    """Fill the new folder `folder`, which then belongs on the path of vLLM's process: one module, as a distribution
    whose entry point vLLM finds."""
    from tunewright_vllm import lora_cpu

    about = folder / f"{PLUGIN}-1.dist-info"
    about.mkdir(parents=True)
    shutil.copyfile(lora_cpu.__file__, folder / f"{PLUGIN}.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-lora\nVersion: 1\n", "utf-8")
    entry = f"[vllm.general_plugins]\n{PLUGIN} = {PLUGIN}:register\n"
    (about / "entry_points.txt").write_text(entry, "utf-8")
