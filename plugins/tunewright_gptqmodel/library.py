"""The one place that imports gptqmodel: with what it needs set, silent, and with the extra named where it is lacking."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec

from tunewright.errors import MissingExtra

EXTRA = "gptq"
NEEDED = ("gptqmodel", "optimum")
"""gptqmodel packs and unpacks; transformers asks optimum to put its layers into a model."""


def lacking() -> str | None:
    """What is not installed, as a sentence with the command; nothing is imported."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if not absent:
        return None
    return f'it needs {" and ".join(absent)}: pip install "tunewright[{EXTRA}]"'


def environment() -> dict[str, str]:
    """Variables that gptqmodel is to find. Its pool of workers does not start with one, as it counts for two cores."""
    workers = min(12, max(2, (os.cpu_count() or 1) // 2))
    return {"GPTQMODEL_CPU_WORKERS": str(workers), "LOGBAR_ANIMATION": "0"}


def prepare_import(backend: str) -> None:
    """Import gptqmodel. Raises `MissingExtra` naming the backend that asked."""
    os.environ.update(environment())
    try:
        with warnings.catch_warnings(action="ignore"):  # of kernels for cards that are not here
            import gptqmodel  # noqa: F401
            import optimum  # noqa: F401
    except ImportError as error:
        raise MissingExtra(backend, EXTRA, error) from error
