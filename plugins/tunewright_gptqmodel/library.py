"""The one place that imports gptqmodel: with what it needs, silent, and with the extra named where it is lacking."""

from __future__ import annotations

import io
import logging
import os
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from types import ModuleType
from typing import cast

from tunewright.errors import MissingExtra
from tunewright_transformers.library import OFFLINE

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
    """Variables that gptqmodel is to find. Its pool of workers does not start with one, as it counts for two cores.

    And, as everywhere here, nothing asks a network.
    """
    workers = min(12, max(2, (os.cpu_count() or 1) // 2))
    return {**OFFLINE, "GPTQMODEL_CPU_WORKERS": str(workers)}


def library(backend: str) -> ModuleType:
    """gptqmodel, which after this prints nothing. Raises `MissingExtra` naming the backend that asked."""
    os.environ.update(environment())
    said = io.StringIO()  # a banner, and which kernels for cards are not here
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(said), redirect_stderr(said):
            import gptqmodel
            import optimum  # noqa: F401  transformers says that it is missing after minutes of loading
            from logbar import LogBar
    except ImportError as error:
        raise MissingExtra(backend, EXTRA, error) from error
    LogBar.shared().setLevel(logging.CRITICAL)  # it writes to stdout
    return cast(ModuleType, gptqmodel)
