"""Who runs what where pytest-xdist has several workers: everything that computes with torch in one of them.

Two trainings at once take each other's cores and caches, and are no quicker than one after the other. What needs no
torch, about half, runs beside them a file at a time.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent.parent
TORCH = "torch"
LIBRARIES = re.compile(
    r"^\s*(?:import|from) (?:torch|transformers|peft|trl|bitsandbytes|tiny"
    r"|tunewright_(?:transformers|peft|trl|bitsandbytes|gptqmodel))\b",
    re.MULTILINE,
)
"""`tiny` makes models."""


@cache
def computes(file: Path) -> bool:
    """Whether a file of tests, or a conftest.py beside it, imports torch or what stands on it."""
    return any(LIBRARIES.search(path.read_text()) for path in (file, file.with_name("conftest.py")) if path.is_file())


class TorchInOneWorker(LoadScopeScheduling):
    """Files go to whoever is free, longest first; all that compute are one piece of work, which is the longest."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TORCH if computes(ROOT / file) else file
