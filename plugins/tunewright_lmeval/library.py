"""The one place that imports lm_eval: offline, silent, and with the extra named where it is not installed.

What it does to the process is put back: tasks draw from Python's and numpy's one generator, and its bars go to stderr.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from types import ModuleType

from tunewright.errors import MissingExtra
from tunewright_transformers.library import OFFLINE

EXTRA = "lm-eval"
SEED = 1234
"""Of what tasks draw: few-shot examples, shuffled choices. lm_eval's own default, so that prompts are its prompts."""


def lacking() -> str | None:
    """What is not installed, as a sentence with the command; nothing is imported."""
    return None if find_spec("lm_eval") else f'it needs lm_eval: pip install "tunewright[{EXTRA}]"'


def library(module: str) -> ModuleType:
    """A module of lm_eval, which after this asks no network and says nothing. Raises `MissingExtra`."""
    os.environ.update({**OFFLINE, "HF_DATASETS_OFFLINE": "1"})
    try:
        with quiet():
            found = importlib.import_module(module)
            import datasets
    except ImportError as error:
        raise MissingExtra("evaluator/lm-eval", EXTRA, error) from error
    datasets.config.HF_HUB_OFFLINE = True  # the environment is read once, and another import may have been first
    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing within is shown: bars, and warnings that are for the makers of tasks. Errors are raised, not printed."""
    said = io.StringIO()
    with warnings.catch_warnings(action="ignore"), redirect_stdout(said), redirect_stderr(said):
        yield


def loud() -> Callable[[], AbstractContextManager[None]]:
    """What undoes `quiet` for a while: made outside of it, used within."""
    out, err = sys.stdout, sys.stderr

    @contextmanager
    def as_before() -> Iterator[None]:
        with redirect_stdout(out), redirect_stderr(err):
            yield

    return as_before


@contextmanager
def seeded() -> Iterator[None]:
    """Draws within are the same every time, and those of the process go on as if there had been none.

    Modules of a client's tasks are read without leaving compiled files beside them.
    """
    import numpy as np

    before, drawn, compiles = random.getstate(), np.random.get_state(), sys.dont_write_bytecode
    random.seed(SEED)
    np.random.seed(SEED)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(drawn)
        sys.dont_write_bytecode = compiles
