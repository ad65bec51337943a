"""`doctor`: what this machine can run, and what is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
from typing import Any

from tunewright.host import Host
from tunewright.parts.base import library_version
from tunewright.store.cache import cache_root

LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "scipy", "datasketch", "gguf")


def diagnose(as_json: bool) -> int:
    """Print findings; the exit code is 3 where training is not possible."""
    cache = cache_root()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    versions = {name: library_version(name) for name in LIBRARIES}
    missing = [name for name, version in versions.items() if version == "absent"]
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "libraries": versions,
        "cache": str(cache),
        "free_bytes": shutil.disk_usage(existing).free,
        "broken_plugins": [f"{fault.plugin}: {fault.why}" for fault in Host().faults],
    }
    print(json.dumps(found)) if as_json else _print(found, missing)
    return 3 if missing else 0


def _print(found: dict[str, Any], missing: list[str]) -> None:
    print(f"python {found['python']}, {found['cores']} cores, {found['free_bytes'] / 1e9:.0f} GB free for the cache")
    print("  ".join(f"{name} {version}" for name, version in found["libraries"].items()))
    for fault in found["broken_plugins"]:
        print(f"broken plugin {fault}")
    if missing:
        print(f'missing for training: {", ".join(missing)}; install: pip install "tunewright[train]"')
    else:
        print("this machine can train")
