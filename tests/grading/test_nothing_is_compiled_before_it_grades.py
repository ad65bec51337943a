"""`validate` imports what an evaluation grades by, and grades nothing: the long patterns wait until something is."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tunewright.grading import number, refusal, text

LONG = 60  # characters


@pytest.mark.parametrize("module", [number, refusal, text], ids=lambda module: module.__name__)
def test_an_import_compiles_no_long_pattern(module, monkeypatch):
    compiled = []
    monkeypatch.setattr(re, "compile", lambda pattern, flags=0: compiled.append(pattern))
    spec = spec_from_file_location("anew", module.__file__)
    spec.loader.exec_module(module_from_spec(spec))
    assert [pattern for pattern in compiled if len(pattern) > LONG] == []
