"""What this machine can do: the speed of its matrix products, the CPU's flags, versions.

Figures of two machines say nothing about two programs: beside every one stands what its machine could do.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""The CPU's flags that decide over the speed of a matrix product, by their names in /proc/cpuinfo."""


def probe(size: int = 1024, seconds: float = 2.0) -> dict[str, Any]:
    """FLOP/s of a `size`³ product by type, the best of those that fit into `seconds`; flags, cores, threads, versions.

    bf16 is tried where this machine multiplies by instructions for it; elsewhere a product takes a hundred times as
    long.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    types = {"fp32": torch.float32, **({"bf16": torch.bfloat16} if dtype() == "bf16" else {})}
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "flags": flags(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gemm": size,
        "flops": {name: _best(kind, device, size, seconds) for name, kind in types.items()},
        "versions": {name: version(name) for name in (*LIBRARIES, "tunewright")},
    }


def dtype() -> str:
    """The type that this machine trains in at its best: bf16 where it has instructions for it, else fp32."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(flags()) else "fp32"


def flags() -> list[str]:
    """Those of `FLAGS` that the first core has; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return []
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    found = set(next(lines, "").partition(":")[2].split())
    return [name for name in FLAGS if name in found]


def _best(kind: Any, device: str, size: int, seconds: float) -> float:
    import torch

    first, second = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        first @ second
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
