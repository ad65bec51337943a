"""A library that is not installed is an error that names the backend and the extra that brings it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tunewright.errors import MissingExtra
from tunewright.resolve import Resolved


@contextmanager
def named(resolved: Resolved) -> Iterator[None]:
    """Turn an import error of a backend's library into `MissingExtra`; any other import error stays what it is."""
    try:
        yield
    except ModuleNotFoundError as error:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        for backend in resolved.backends():
            package = f"/{type(backend).__module__.partition('.')[0]}/"
            if backend.extra and any(package in file.replace("\\", "/") for file in files):
                raise MissingExtra(f"{backend.part}/{backend.kind}", backend.extra, error) from error
        raise
